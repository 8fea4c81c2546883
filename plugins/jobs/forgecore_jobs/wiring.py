"""What a project's gen/jobs/wiring.py holds, and how enqueue() and the runner find it."""

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from attrs import field, frozen

from forgecore.runtime.settings import project_package
from forgecore_jobs.job import AsyncJob, Job
from forgecore_jobs.sequence import Failing, Turn
from forgecore_jobs.unique import Unique

Around = Callable[[Job | AsyncJob], AbstractContextManager[Any]]
"""What is entered around every run of every worker."""


@frozen(kw_only=True)
class Defaults:
    """What the one hook of a kind says; a call of enqueue() wins over it.

    `sequence` is what stands before a record's id in the name of its sequence.
    """

    queue: str
    max_attempts: int | None = None
    timeout: timedelta | None = None
    backoff: str | None = None
    priority: int | None = None
    unique: Unique | None = None
    sequence: str | None = None
    failing: Failing = "blocks"


def _no_metadata() -> Mapping[str, str]:
    return {}


@frozen(kw_only=True)
class Wiring:
    """What plugins and hooks add to every enqueue and to every run."""

    metadata: Callable[[], Mapping[str, str]] = _no_metadata
    around: tuple[Around, ...] = ()
    defaults: Mapping[str, Defaults] = field(factory=dict[str, Defaults])

    def unique_of(self, kind: str) -> Unique | None:
        """Return what makes jobs of a kind the same, as its one hook says."""
        known = self.defaults.get(kind)
        return None if known is None else known.unique

    def turn_of(self, kind: str, resource_id: object) -> Turn | None:
        """Return the place in its record's sequence that a kind's one hook gives its jobs."""
        known = self.defaults.get(kind)
        if known is None or known.sequence is None or resource_id is None:
            return None
        return Turn(f"{known.sequence}/{_spelt(resource_id)}", known.failing)


def _spelt(resource_id: object) -> str:
    # As Postgres writes it: hooks name the same sequence.
    try:
        return str(UUID(str(resource_id)))
    except ValueError:
        return str(resource_id)


def project_wiring() -> Wiring:
    """Return the wiring of the project; SettingsError outside of any."""
    return _wiring(project_package())


@lru_cache(maxsize=8)
def _wiring(package: str) -> Wiring:
    wiring: Wiring = importlib.import_module(f"{package}.gen.jobs.wiring").WIRING
    return wiring
