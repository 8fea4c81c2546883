"""Lease: this process beats from a thread of its own, and frees the jobs of those that died."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

import psycopg
from attrs import define, frozen

from forgecore_jobs.engine.store import LEASE, Entry, Store, log, say
from forgecore_jobs.engine.ticks import Ticks

_BEAT_S: Final = 2.0
_LOOK_S: Final = 0.5
_KINDS_S: Final = 10.0
_ORPHANS_S: Final = 60.0
_SEEN_S: Final = 60.0
_MAINTENANCE_S: Final = 1800.0


@frozen(kw_only=True)
class Calls:
    """What the lease tells the process: it was lost, jobs are to end, half a second passed."""

    lost: Callable[[], object]
    cancelled: Callable[[Sequence[int]], object]
    look: Callable[[], object]
    lost_slots: Callable[[], int]


class Lease:
    """The process's entry among the workers. `worker_id` is another one after it was lost.

    Its thread and connection do nothing else: what waits for a lock does not beat.
    """

    def __init__(self, store: Store, entry: Entry, calls: Calls) -> None:
        self._store = store
        self._entry = entry
        self._calls = calls
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="forge-lease", daemon=True)
        self._beaten = time.monotonic()
        self._is_lost = False
        self.worker_id = 0

    def start(self) -> None:
        """Enter the list and start to beat; NotMigratedError without the tables."""
        self.worker_id = self._store.register(self._entry)
        self._beaten = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and leave the list."""
        self._stopped.set()
        self._thread.join(_BEAT_S)
        try:
            for job_id in self._store.leave(self.worker_id):
                log.warning("job.given_back", job_id=job_id)
        except psycopg.Error as error:
            log.warning("lease.not_left", error=str(error).strip())

    @property
    def is_sure(self) -> bool:
        """Whether the last beat was answered, a moment ago."""
        return not self._is_lost and time.monotonic() - self._beaten < 2 * _BEAT_S

    def give_up_if_late(self) -> None:
        """End what runs if others may think this process dead.

        To be called by a thread that waits for no server.
        """
        if not self._is_lost and time.monotonic() - self._beaten > LEASE.total_seconds():
            self._is_lost = True
            say("warning", "lease.expired", worker_id=self.worker_id)
            self._calls.lost()

    def _loop(self) -> None:
        due = 0.0
        while not self._stopped.wait(_LOOK_S):
            try:
                if time.monotonic() >= due:
                    self._beat()
                    due = time.monotonic() + _BEAT_S
                self._calls.look()
                if asked := self._store.cancels():
                    self._calls.cancelled(asked)
            except Exception as error:  # noqa: BLE001 -- whose beat ends is taken for dead
                say("warning", "lease.beat_failed", error=str(error).strip())

    def _beat(self) -> None:
        asked = time.monotonic()
        if not self._store.beat(self.worker_id, self._calls.lost_slots()):
            self._calls.lost()
            lost, self.worker_id = self.worker_id, self._store.register(self._entry)
            log.warning("lease.lost", worker_id=lost)
        self._beaten = asked
        self._is_lost = False


@define
class _Chore:
    """Something to do every so many seconds."""

    every_s: float
    do: Callable[[], None]
    due: float = 0.0

    def look(self, now: float) -> None:
        if now >= self.due:
            self.do()
            self.due = now + self.every_s


class Chores:
    """What every process does for all: free the jobs of dead ones, see to the clock, prune."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        entry: Entry,
        kept: Mapping[str, timedelta],
        ticks: Ticks,
    ) -> None:
        self._store = store
        self._lease = lease
        self._entry = entry
        self._kept = kept
        self._ticks = ticks
        self._told: set[str] = set()
        self._may_maintain = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="forge-chores", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, when what it does is done."""
        self._stopped.set()
        self._thread.join(_BEAT_S)

    def _loop(self) -> None:
        now = time.monotonic()
        chores = (
            _Chore(_BEAT_S, self._rescue),
            _Chore(_LOOK_S, self._ticks.look),
            _Chore(_LOOK_S, self._store.release),
            _Chore(_SEEN_S, self._ticks.see),
            _Chore(_KINDS_S, self._name_unknown),
            _Chore(_ORPHANS_S, self._store.find_orphans),
            _Chore(_ORPHANS_S, lambda: self._store.release(thorough=True)),
            # Not all processes of a deployment at once.
            _Chore(_MAINTENANCE_S, self._store.forget_keys, now + random.uniform(1, 30)),  # noqa: S311
            _Chore(_MAINTENANCE_S, self._maintain, now + random.uniform(1, 30)),  # noqa: S311
        )
        while not self._stopped.wait(_LOOK_S):
            for chore in chores:
                try:
                    chore.look(time.monotonic())
                except Exception as error:  # noqa: BLE001 -- the others are not its fault
                    say("warning", "chores.failed", error=str(error).strip())
                    self._stopped.wait(_BEAT_S)

    def _rescue(self) -> None:
        # After an outage everybody looks dead for a moment, this process included.
        if self._lease.is_sure:
            for job_id, what in self._store.rescue(self._lease.worker_id):
                log.warning(f"job.{what}", job_id=job_id, error="its worker died")

    def _name_unknown(self) -> None:
        for kind in self._store.unknown_kinds(list(self._entry.limits), self._entry.kinds):
            if kind not in self._told:
                self._told.add(kind)
                log.warning("kind.unknown", kind=kind, hint="no worker here: its jobs wait")

    def _maintain(self) -> None:
        try:
            self._store.maintain(self._kept)
        except psycopg.errors.InsufficientPrivilege as error:
            if self._may_maintain:
                self._may_maintain = False
                log.warning(
                    "jobs.not_pruned", error=str(error).strip(), hint="run `forgecore jobs prune`"
                )
