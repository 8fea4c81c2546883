"""The engine: claims, runs and settles jobs. Nothing of the build is imported here."""
