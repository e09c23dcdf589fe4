"""One protocol for every figure, and the pictures of the result."""
