"""Benchmark of speed: rate and memory of every stage, compared with a lower bound."""
