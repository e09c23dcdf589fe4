"""The benchmarks behind `model-behavior benchmark`: baselines, variants, speed, scale, load."""
