"""Stage 1 (`behavior`)."""
