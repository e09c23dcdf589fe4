"""Stage 1: embeds (prompt, response) pairs; a model's embedding is the mean over its pairs."""
