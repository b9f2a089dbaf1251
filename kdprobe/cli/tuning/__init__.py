"""The command that compares methods, and what it takes from the command line."""
