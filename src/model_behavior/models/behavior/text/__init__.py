"""Text encoders, which turn (prompt, response) pairs into numbers before training."""
