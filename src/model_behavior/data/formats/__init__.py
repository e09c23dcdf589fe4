"""The published vote and response formats, one module per family."""
