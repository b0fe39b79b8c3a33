"""The command line: an ordinary client of the library."""
