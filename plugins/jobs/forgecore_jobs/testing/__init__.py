"""Tests of a project: fixtures for pytest, found by themselves when the package is installed."""

from forgecore_jobs.testing.clock import Clock
from forgecore_jobs.testing.factories import build
from forgecore_jobs.testing.jobs import Enqueued, Jobs, Ran

__all__ = ["Clock", "Enqueued", "Jobs", "Ran", "build"]
