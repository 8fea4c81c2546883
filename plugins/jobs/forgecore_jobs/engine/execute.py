"""Runner: decode, tenant, log, transaction, the user's function, outcome.

It is the only place where a user's function is called, whatever carries the job.
"""

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Coroutine, Generator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin
from uuid import UUID

from attrs import frozen
from cattrs import Converter, transform_error

from forgecore.runtime import AsyncDatabase, Database, acting
from forgecore_jobs.backoff import RIVER, Backoff
from forgecore_jobs.engine.acks import Acks
from forgecore_jobs.engine.store import Held, Settled, log, say
from forgecore_jobs.engine.transaction import (
    AsyncJobTransaction,
    CompletionUnsureError,
    JobTransaction,
    LeaseLostError,
)
from forgecore_jobs.job import (
    Again,
    AsyncJob,
    Cancel,
    Claim,
    Discard,
    Failure,
    Finished,
    Job,
    Outcome,
    Snooze,
)
from forgecore_jobs.wiring import Wiring
from forgecore_jobs.worker import Worker

_LONGEST_TRACEBACK: Final = 16 * 1024
_LONGEST_MESSAGE: Final = 4 * 1024
_UNSURE: Final = timedelta(seconds=5)
_UNREADABLE: Final = timedelta(minutes=1)


class ArgumentsError(Exception):
    """The arguments of a job do not fit the class of its kind."""


class EventLoop:
    """One event loop in a thread of its own, for every `async def` worker of the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._run_loop, name="forge-loop", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, object], timeout_s: float | None = None) -> None:
        """Run a coroutine in the loop and wait for its end."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def _run_loop(self) -> None:
        while not self._stopping:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001 -- a SystemExit in a task ends run_forever
                say("error", "loop.interrupted", error=repr(error))

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1)


@frozen(kw_only=True)
class Runner:
    """Runs claims and hands their outcomes over. It raises nothing that a worker raised."""

    workers: Mapping[str, Worker[Any]]
    wiring: Wiring
    database: Database
    async_database: AsyncDatabase
    loop: EventLoop
    acks: Acks
    held: Held

    def run(self, claim: Claim) -> None:
        """Run a claim to its outcome, in this thread or in the loop."""
        if self.workers[claim.kind].is_async:
            self.loop.run(self._run_async(claim))
        else:
            # What a worker binds to its context must not reach the next job of the thread.
            contextvars.copy_context().run(self._run, claim)

    def _run(self, claim: Claim) -> None:
        worker = self.workers[claim.kind]
        tx = JobTransaction(self.database)
        job = Job(tx=tx, log=_log(claim), **_told(claim))
        settled = Settled(claim=claim, outcome=Finished(state="completed"))
        try:
            args = decode(worker, claim)
            with self._around(job):
                worker.function(args, job)
            if tx.is_open:
                tx.complete(settled)
                self.held.discard([claim])
                return
        except LeaseLostError:
            say("warning", "job.lease_lost", by=job.log)
            self.held.discard([claim])
            return
        except BaseException as error:  # noqa: BLE001 -- a border: a job never takes the thread down
            settled = Settled(claim=claim, outcome=outcome_of(error, claim, job))
            _undo(tx, error)
        finally:
            tx.end()
        self.acks.put(settled)

    async def _run_async(self, claim: Claim) -> None:
        worker = self.workers[claim.kind]
        tx = AsyncJobTransaction(self.async_database)
        job = AsyncJob(tx=tx, log=_log(claim), **_told(claim))
        settled = Settled(claim=claim, outcome=Finished(state="completed"))
        try:
            args = decode(worker, claim)
            with self._around(job):
                await worker.function(args, job)
            if tx.is_open:
                await tx.complete(settled)
                self.held.discard([claim])
                return
        except LeaseLostError:
            say("warning", "job.lease_lost", by=job.log)
            self.held.discard([claim])
            return
        except BaseException as error:  # noqa: BLE001 -- a border, as above
            settled = Settled(claim=claim, outcome=outcome_of(error, claim, job))
            try:
                await tx.undo(error)
            except BaseException as other:  # noqa: BLE001 -- the server has rolled back by itself
                say("warning", "job.rollback_failed", by=job.log, error=str(other).strip())
        finally:
            tx.end()
        self.acks.put(settled)

    @contextmanager
    def _around(self, job: Job | AsyncJob) -> Generator[None]:
        with ExitStack() as stack:
            stack.enter_context(acting(tenant=job.tenant_id, user=None))
            for around in self.wiring.around:
                stack.enter_context(around(job))
            yield


def decode(worker: Worker[Any], claim: Claim) -> object:
    """Return the claim's arguments as their class; ArgumentsError names the fields at fault."""
    try:
        return _CONVERTER.structure(claim.args, worker.args)
    except Exception as error:  # noqa: BLE001 -- a border: the fields are named
        faults = "; ".join(transform_error(error, path="args"))
        raise ArgumentsError(faults) from None


def outcome_of(error: BaseException, claim: Claim, job: Job | AsyncJob) -> Outcome:
    """Return what an exception of a worker means for its job, and log it."""
    try:
        return _outcome_of(error, claim, job)
    except Exception as other:  # noqa: BLE001 -- whatever an exception does, the job must not hang
        said = f"{type(error).__qualname__}, which cannot be read: {type(other).__qualname__}"
        say("warning", "job.failed", by=job.log, error=said)
        failure = Failure(error=type(error).__qualname__, message=said, traceback="")
        if claim.failures + 1 < claim.max_attempts:
            return Again(delay=_UNREADABLE, failure=failure)
        return Finished(state="discarded", failure=failure)


def _outcome_of(error: BaseException, claim: Claim, job: Job | AsyncJob) -> Outcome:
    match error:
        case Snooze():
            return Again(delay=error.delay)
        case Cancel():
            return Finished(state="cancelled")
        case CompletionUnsureError():
            say("warning", "job.completion_unsure", by=job.log, error=str(error.__cause__))
            return Again(delay=_UNSURE)
        case Discard() | ArgumentsError():
            say("error", "job.discarded", by=job.log, error=_said(error))
            return Finished(state="discarded", failure=_failure(error))
        case _:
            return _after_failure(error, claim, job)


def _after_failure(error: BaseException, claim: Claim, job: Job | AsyncJob) -> Outcome:
    failures = claim.failures + 1
    unexpected = not isinstance(error, Exception) or isinstance(error, MemoryError)
    say(
        "warning",
        "job.failed",
        by=job.log,
        failures=failures,
        max_attempts=claim.max_attempts,
        error=_said(error),
        exc_info=error if unexpected else None,
    )
    if failures < claim.max_attempts:
        return Again(delay=_delay(claim, failures), failure=_failure(error))
    say(
        "error",
        "job.discarded",
        by=job.log,
        failures=failures,
        max_attempts=claim.max_attempts,
        error=_said(error),
        exc_info=error,
    )
    return Finished(state="discarded", failure=_failure(error))


def _delay(claim: Claim, failures: int) -> timedelta:
    try:
        backoff = Backoff.parse(claim.backoff or RIVER)
    except ValueError:
        # Whoever wrote the row by hand may have written anything.
        backoff = Backoff(RIVER)
    return backoff.delay(failures)


def _failure(error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))
    return Failure(
        error=type(error).__qualname__,
        message=_storable(str(error)[:_LONGEST_MESSAGE]),
        traceback=_storable(text[-_LONGEST_TRACEBACK:]),
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"[:_LONGEST_MESSAGE]


def _storable(text: str) -> str:
    # An error may quote what Postgres has no text for: losing the outcome over it helps nobody.
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _undo(tx: JobTransaction, error: BaseException) -> None:
    try:
        tx.undo(error)
    except Exception as other:  # noqa: BLE001 -- the server has rolled back by itself
        say("warning", "job.rollback_failed", error=str(other).strip())


def _log(claim: Claim) -> Any:  # noqa: ANN401 -- a lazy proxy of structlog's
    return log.bind(
        kind=claim.kind,
        job_id=claim.id,
        queue=claim.queue,
        attempt=claim.attempt,
        max_attempts=claim.max_attempts,
        tenant_id=str(claim.tenant_id) if claim.tenant_id else None,
    )


def _told(claim: Claim) -> dict[str, Any]:
    names = ("id", "kind", "queue", "attempt", "failures", "max_attempts", "tenant_id", "metadata")
    return {name: getattr(claim, name) for name in names}


def _converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    for cls in (UUID, Decimal):
        converter.register_structure_hook(cls, lambda value, to: to(str(value)))
    for moment in (datetime, date, time):
        converter.register_structure_hook(moment, lambda value, to: to.fromisoformat(value))
    converter.register_structure_hook(timedelta, lambda value, _: timedelta(seconds=value))
    # By identity: an enum that is a str as well has a hook of its own.
    converter.register_structure_hook_func(lambda to: to in (str, int, bool), _exact)
    converter.register_structure_hook_func(_is_plain_union, _one_of)
    return converter


def _exact(value: object, to: Any) -> Any:  # noqa: ANN401 -- whatever the class says
    if type(value) is not to:
        raise ValueError(f"expected {to.__name__}")
    return value


def _is_plain_union(to: Any) -> bool:  # noqa: ANN401
    return get_origin(to) in {Union, UnionType} and set(get_args(to)) <= _PLAIN


def _one_of(value: object, to: Any) -> object:  # noqa: ANN401
    if type(value) is int and float in get_args(to) and int not in get_args(to):
        return float(value)
    if type(value) not in get_args(to):
        raise ValueError(f"expected {' or '.join(one.__name__ for one in get_args(to))}")
    return value


_PLAIN: Final = {str, int, bool, float, type(None)}
_CONVERTER: Final = _converter()
