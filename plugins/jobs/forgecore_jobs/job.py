"""A job as its worker sees it, and how a run can end."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeVar
from uuid import UUID

from attrs import field, frozen

from forgecore.runtime import AsyncTransaction, Transaction


class Log(Protocol):
    """What `job.log` offers: structlog's logger, which is slow to import for its type alone."""

    def bind(self, **keys: object) -> "Log":
        """Return a log that has more keys bound."""
        ...

    def debug(self, event: str, **keys: object) -> object:
        """Log something for a developer."""
        ...

    def info(self, event: str, **keys: object) -> object:
        """Log something that happened."""
        ...

    def warning(self, event: str, **keys: object) -> object:
        """Log something that should not happen often."""
        ...

    def error(self, event: str, **keys: object) -> object:
        """Log something that somebody must look at."""
        ...


class JobArgs(Protocol):
    """What the class of a kind's arguments has: a frozen attrs class with its kind."""

    kind: ClassVar[str]


A = TypeVar("A", bound=JobArgs)


class Claim(NamedTuple):
    """A job that this process runs. `(id, attempt)` is what its outcome is fenced by.

    A named tuple, since one is made for every job that runs.
    """

    id: int
    kind: str
    queue: str
    args: Mapping[str, Any]
    tenant_id: UUID | None
    metadata: Mapping[str, str]
    attempt: int
    failures: int
    max_attempts: int
    backoff: str | None
    timeout: timedelta | None
    priority: int
    run_at: datetime
    worker_id: int


@frozen(kw_only=True)
class _JobBase:
    """What a job tells its worker."""

    id: int
    kind: str
    queue: str
    attempt: int
    failures: int
    max_attempts: int
    tenant_id: UUID | None
    metadata: Mapping[str, str]
    log: Log = field(repr=False)


@frozen(kw_only=True)
class Job(_JobBase):
    """The job of a synchronous worker.

    `tx` begins its transaction at its first statement; what is written through it commits
    together with the job's completion. `log` has kind, job_id, attempt and tenant_id bound.
    """

    tx: Transaction = field(repr=False)


@frozen(kw_only=True)
class AsyncJob(_JobBase):
    """The job of an `async def` worker; see `Job`."""

    tx: AsyncTransaction = field(repr=False)


LONGEST_DELAY: Final = timedelta(days=3650)
"""A job is put off by ten years at most: later dates are not dates to Postgres."""


class Snooze(Exception):  # noqa: N818 -- an order, not an error
    """Raise it to run the job again after `delay`; it counts as no failure."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(f"again in {delay}")
        if not isinstance(delay, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("Snooze takes a timedelta")
        self.delay = max(timedelta(0), min(delay, LONGEST_DELAY))


class Cancel(Exception):  # noqa: N818
    """Raise it to end the job as cancelled."""


class Discard(Exception):  # noqa: N818
    """Raise it to give the job up, whatever attempts it has left."""


@frozen(kw_only=True)
class Failure:
    """What went wrong in an attempt, as it is kept."""

    error: str
    message: str
    traceback: str


@frozen(kw_only=True)
class Finished:
    """The job has ended: `completed`, `discarded` or `cancelled`."""

    state: str
    failure: Failure | None = None


@frozen(kw_only=True)
class Again:
    """The job waits for another run; without a failure it was snoozed."""

    delay: timedelta
    failure: Failure | None = None


@frozen(kw_only=True)
class GivenBack:
    """The job waits for another process, as if this one had never claimed it."""

    failure: Failure | None = None


Outcome = Finished | Again | GivenBack
