"""The database of a project: the embedded server, and migrations."""
