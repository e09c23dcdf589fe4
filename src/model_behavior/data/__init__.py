"""The outside world to `TrainingData`: sources, published formats, filters, the split."""
