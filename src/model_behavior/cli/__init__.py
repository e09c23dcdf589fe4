"""The command line: flags to one library call to output."""
