"""Text encoders: what turns a (prompt, response) pair into numbers before training."""
