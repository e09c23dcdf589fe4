"""Stage 2: who would win, from the prompt and what is known of two models."""
