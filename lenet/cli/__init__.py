"""Front: the command line, a file a command."""
