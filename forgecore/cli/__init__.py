"""The command line: the only place where an exception becomes text."""
