"""Outcome: what an exception of a worker means for its job."""

import traceback
from datetime import timedelta
from typing import Any, Final

import psycopg
from dramatiq.errors import Retry

from forgecore_jobs.backoff import RIVER, Backoff
from forgecore_jobs.engine.decode import ArgumentsError, NewerArgumentsError
from forgecore_jobs.engine.store import MOST_KILLS, say
from forgecore_jobs.engine.transaction import CompletionUnsureError
from forgecore_jobs.engine.watch import Cancelled, GraceOver, Run, TimeLimitExceeded
from forgecore_jobs.job import (
    LONGEST_DELAY,
    Again,
    AsyncJob,
    Cancel,
    Claim,
    Discard,
    Failure,
    Finished,
    GivenBack,
    Job,
    Outcome,
    Snooze,
)
from forgecore_jobs.worker import Worker

_LONGEST_TRACEBACK: Final = 16 * 1024
_LONGEST_MESSAGE: Final = 4 * 1024
_NEWER: Final = timedelta(seconds=10)
_UNSURE: Final = timedelta(seconds=5)
_UNREADABLE: Final = timedelta(minutes=1)


class WorkerKilled(Exception):  # noqa: N818 -- the name that is kept with the job
    """The job's worker died so often that the job is likely what kills it."""


def refuse_killer(claim: Claim) -> None:
    """Raise WorkerKilled for a claim that must not run any more; its callbacks hear of that."""
    if claim.kills >= MOST_KILLS:
        raise WorkerKilled(f"killed its worker {claim.kills} times")


def outcome_of(error: BaseException, worker: Worker[Any], run: Run, job: Job | AsyncJob) -> Outcome:
    """Return what the end of a run by an exception means for its job, and log it."""
    claim = run.claim
    # What was raised inside an interrupted run is a consequence.
    error = run.reason or _over_time(error, run) or error
    try:
        return _outcome_of(error, worker, claim, job)
    except Exception as other:  # noqa: BLE001 -- whatever an exception does, the job must not hang
        said = f"{type(error).__qualname__}, which cannot be read: {type(other).__qualname__}"
        say("warning", "job.failed", by=job.log, error=said)
        name = _storable(type(error).__qualname__)
        failure = Failure(error=name, message=_storable(said), traceback="")
        if claim.failures + 1 < claim.max_attempts:
            return Again(delay=_UNREADABLE, failure=failure)
        return Finished(state="discarded", failure=failure)


def _over_time(error: BaseException, run: Run) -> BaseException | None:
    # The server's statement_timeout may be a little before the watch.
    if isinstance(error.__cause__ or error, psycopg.errors.QueryCanceled) and run.is_over_time:
        return TimeLimitExceeded(run.claim.kind)
    return None


def _outcome_of(
    error: BaseException, worker: Worker[Any], claim: Claim, job: Job | AsyncJob
) -> Outcome:
    match error:
        case Snooze():
            return Again(delay=error.delay)
        case Cancel() | Cancelled():
            return Finished(state="cancelled")
        case GraceOver():
            say("info", "job.given_back", by=job.log)
            return GivenBack()
        case CompletionUnsureError():
            say("warning", "job.completion_unsure", by=job.log, error=str(error.__cause__))
            return Again(delay=_UNSURE)
        case NewerArgumentsError():
            say("warning", "job.newer", by=job.log, error=str(error))
            return Again(delay=_NEWER)
        case Discard() | ArgumentsError() | WorkerKilled():
            return _discarded(error, job)
        case _ if isinstance(error, worker.throws):
            return _discarded(error, job)
        case _ if worker.retry_when is not None and not worker.retry_when(claim.failures, error):
            return _discarded(error, job)
        case _:
            return _after_failure(error, claim, job)


def _discarded(error: BaseException, job: Job | AsyncJob) -> Outcome:
    say("error", "job.discarded", by=job.log, error=_said(error))
    return Finished(state="discarded", failure=failure_of(error))


def _after_failure(error: BaseException, claim: Claim, job: Job | AsyncJob) -> Outcome:
    failures = claim.failures + 1
    keys = {"failures": failures, "max_attempts": claim.max_attempts, "error": _said(error)}
    unexpected = not isinstance(error, Exception) or isinstance(error, MemoryError)
    trace = error if unexpected else None
    say("warning", "job.failed", by=job.log, **keys, exc_info=trace)
    if failures < claim.max_attempts:
        return Again(delay=_delay(claim, failures, error), failure=failure_of(error))
    say("error", "job.discarded", by=job.log, **keys, exc_info=error)
    return Finished(state="discarded", failure=failure_of(error))


def _delay(claim: Claim, failures: int, error: BaseException) -> timedelta:
    if isinstance(error, Retry) and error.delay is not None:
        return max(timedelta(0), min(timedelta(milliseconds=error.delay), LONGEST_DELAY))
    try:
        backoff = Backoff.parse(claim.backoff or RIVER)
    except ValueError:
        # Whoever wrote the row by hand may have written anything.
        backoff = Backoff(RIVER)
    return backoff.delay(failures)


def failure_of(error: BaseException) -> Failure:
    """Return an exception as it is kept with its attempt."""
    text = "".join(traceback.format_exception(error))
    return Failure(
        error=_storable(type(error).__qualname__),
        message=_storable(str(error)[:_LONGEST_MESSAGE]),
        traceback=_storable(text[-_LONGEST_TRACEBACK:]),
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"[:_LONGEST_MESSAGE]


def _storable(text: str) -> str:
    # An error may quote what Postgres has no text for: losing the outcome over it helps nobody.
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
