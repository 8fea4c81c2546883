"""forgecore: describe resources once, build a typed Postgres data layer with jobs."""

__version__ = "0.1.0"
