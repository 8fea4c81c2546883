"""A job as its worker sees it, and how a run can end."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import ClassVar, Final, NamedTuple, Protocol, TypeVar, cast
from uuid import UUID

from attrs import define, field, frozen

from forgecore.runtime import AsyncTransaction, Transaction, rules
from forgecore_jobs.plain import LARGEST, plain


class Log(Protocol):
    """What `job.log` offers of structlog's logger."""

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
PASSES: Final = "passes"
"""What the key `failing` of a job's metadata says if it lets its sequence pass when it fails."""
AFTER: Final = "after"
"""The key of a job's metadata that says the ids of the jobs that it came after."""
VERSION: Final = "args_version"
"""The key of a job's metadata that says the version of its arguments; without it they have 1."""


def version_of(args: type) -> int:
    """Return the version of an arguments' class: its `version: ClassVar[int]`, or 1."""
    version: object = getattr(args, "version", 1)
    return version if isinstance(version, int) else 1


class Claim(NamedTuple):
    """A job that this process runs. `(id, attempt)` is what its outcome is fenced by.

    A named tuple, since one is made for every job that runs.
    """

    id: int
    kind: str
    queue: str
    args: str
    tenant_id: UUID | None
    metadata: str
    attempt: int
    failures: int
    max_attempts: int
    backoff: str | None
    timeout_s: float | None
    kills: int
    priority: int
    run_at: datetime
    worker_id: int


@define(eq=False)
class _JobBase:
    """What a job tells its worker."""

    _claim: Claim
    output_json: str | None = field(default=None, init=False, repr=False)
    """`output` as JSON; None if there is none."""

    @property
    def id(self) -> int:
        """The job's id, the same for every attempt."""
        return self._claim.id

    @property
    def kind(self) -> str:
        """The kind."""
        return self._claim.kind

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self._claim.queue

    @property
    def attempt(self) -> int:
        """How often the job was started, this time included."""
        return self._claim.attempt

    @property
    def failures(self) -> int:
        """How often it has failed before."""
        return self._claim.failures

    @property
    def max_attempts(self) -> int:
        """After how many failures it is given up."""
        return self._claim.max_attempts

    @property
    def tenant_id(self) -> UUID | None:
        """The tenant that it was enqueued for."""
        return self._claim.tenant_id

    @property
    def metadata(self) -> Mapping[str, str]:
        """What plugins added at the enqueue; nothing if it is no object."""
        try:
            found: object = json.loads(self._claim.metadata)
        except (ValueError, RecursionError):
            return {}
        return cast("Mapping[str, str]", found) if isinstance(found, dict) else {}

    @property
    def after(self) -> Sequence[int]:
        """The ids of the jobs that it came after; `output_of` gives what each of them kept."""
        ids = self.metadata.get(AFTER, "").split(",")
        return tuple(int(one) for one in ids if one.isdecimal())

    @property
    def output(self) -> object:
        """What the job keeps when it ends: anything that has a form in JSON, 1 MB at most."""
        return None if self.output_json is None else json.loads(self.output_json)

    @output.setter
    def output(self, value: object) -> None:
        try:
            given = plain(value)
        except RecursionError:
            raise ValueError("the output is nested too deeply") from None
        except TypeError as error:
            raise TypeError(f"the output {error}") from None
        if given is not None and (fault := rules.json(given)) is not None:
            raise ValueError(f"the output {fault[1]}")
        text = json.dumps(given, separators=(",", ":"))
        if len(text) > LARGEST:
            raise ValueError(f"the output is {len(text)} bytes, {LARGEST} at most")
        self.output_json = text

    @cached_property
    def log(self) -> Log:
        """A log that has kind, job_id, queue, attempt, max_attempts and tenant_id bound."""
        import structlog  # noqa: PLC0415 -- whoever only enqueues does not pay for it

        claim = self._claim
        log: Log = structlog.get_logger(
            "forgecore_jobs",
            kind=claim.kind,
            job_id=claim.id,
            queue=claim.queue,
            attempt=claim.attempt,
            max_attempts=claim.max_attempts,
            tenant_id=None if claim.tenant_id is None else str(claim.tenant_id),
        )
        return log


@define(eq=False)
class Job(_JobBase):
    """The job of a synchronous worker.

    `tx` begins its transaction at its first statement; what is written through it commits
    together with the job's completion.
    """

    tx: Transaction = field(repr=False)


@define(eq=False)
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
    """The job has ended: `completed`, `discarded` or `cancelled`. `output` is JSON."""

    state: str
    failure: Failure | None = None
    output: str | None = None


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
