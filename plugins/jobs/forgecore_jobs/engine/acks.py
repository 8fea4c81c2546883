"""Acks: outcomes gathered from every thread and written in batches, until they are written."""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import psycopg

from forgecore_jobs.engine.store import Settled, Store, say
from forgecore_jobs.job import Again, Failure

_WINDOW_S: Final = 0.002
_PAUSE_S: Final = 1.0
# What passes: a server that is away, became a standby, or lost a right for a while.
_LATER: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InsufficientPrivilege,
)
_MOST: Final = 500
_REFUSED: Final = timedelta(minutes=1)


class Acks:
    """A thread that writes outcomes. What it could not write, it keeps and tries again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.freed: Callable[[str], object] | None = None
        """What is told the queue of an outcome that was written."""
        # A deque: swapping a list for a new one loses what a thread appends in between.
        self._waiting: deque[Settled] = deque()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="forge-acks", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, settled: Settled) -> None:
        """Hand an outcome over; it is written within milliseconds."""
        self._waiting.append(settled)
        if not self._wake.is_set():
            self._wake.set()

    def wrote(self, queue: str) -> None:
        """Say that an outcome of a queue's job was written, here or by the job itself."""
        if self.freed is not None:
            self.freed(queue)

    def stop(self, timeout_s: float) -> int:
        """Write what is left and end the thread; return how many outcomes could not be written."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return len(self._waiting)

    def _loop(self) -> None:
        while not (self._stopped.is_set() and not self._waiting):
            try:
                self._gather()
            except Exception as error:  # noqa: BLE001 -- without this thread every outcome is lost
                say("error", "acks.interrupted", error=repr(error))
                self._stopped.wait(_PAUSE_S)

    def _gather(self) -> None:
        self._wake.wait(_PAUSE_S)
        self._wake.clear()
        if not self._stopped.is_set():
            time.sleep(_WINDOW_S)
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))]
            left = batch
            try:
                left = self._write(batch)
            finally:
                self._waiting.extendleft(reversed(left))
            unwritten = {id(one) for one in left}
            self._store.held.discard(one.claim for one in batch if id(one) not in unwritten)
            if self.freed is not None:
                for queue in {one.claim.queue for one in batch if id(one) not in unwritten}:
                    self.wrote(queue)
            if left:
                break

    def _write(self, batch: list[Settled]) -> list[Settled]:
        """Write outcomes; return those that are to be tried again."""
        try:
            held = self._store.settle(batch)
        except _LATER as error:
            say("warning", "acks.failed", error=str(error).strip(), waiting=len(batch))
            self._stopped.wait(_PAUSE_S)
            return batch
        except Exception as error:  # noqa: BLE001 -- one that cannot be written holds up no other
            if len(batch) > 1:
                return [left for one in batch for left in self._write([one])]
            return self._write_refused(batch[0], error)
        for one in batch:
            if one.claim.id not in held:
                # Or it was written before, by a batch whose answer was lost.
                claim = one.claim
                keys = {"kind": claim.kind, "job_id": claim.id, "attempt": claim.attempt}
                say("warning", "job.lease_lost", **keys)
        return []

    def _write_refused(self, one: Settled, error: Exception) -> list[Settled]:
        """Write, for an outcome that the database refuses, that the run failed."""
        text = ascii(str(error).strip())
        say("error", "acks.refused", error=text, job_id=one.claim.id, kind=one.claim.kind)
        failure = Failure(error=type(error).__name__, message=text, traceback="")
        # What nothing can be written of is given back: it runs again, here or elsewhere.
        for outcome in (Again(delay=_REFUSED, failure=failure), Again(delay=_REFUSED)):
            try:
                self._store.settle([Settled(claim=one.claim, outcome=outcome)])
            except _LATER:
                return [one]
            except Exception as other:  # noqa: BLE001 -- the next one says less
                say("error", "acks.refused", error=ascii(str(other)), job_id=one.claim.id)
            else:
                break
        return []
