"""The command line: each command turns its options into one call of the library, and prints the result."""
