"""Stage 1: (prompt, response) pairs to vectors, and models to the mean of their vectors."""
