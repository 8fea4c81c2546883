"""Lease: this process beats from a thread of its own, and frees the jobs of those that died."""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import psycopg

from forgecore_jobs.engine.store import Store, log, say

_BEAT_S: Final = 2.0


class Lease:
    """The process's entry among the workers. `worker_id` is another one after it was lost."""

    def __init__(self, store: Store, kinds: Sequence[str]) -> None:
        self._store = store
        self._kinds = kinds
        self._told: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="forge-lease", daemon=True)
        self.worker_id = 0

    def start(self) -> None:
        """Enter the list and start to beat; NotMigratedError without the tables."""
        self.worker_id = self._store.register()
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

    def _loop(self) -> None:
        steps: tuple[Callable[[], None], ...] = (self._beat, self._rescue, self._name_unknown)
        while not self._stopped.wait(_BEAT_S):
            try:
                for step in steps:
                    step()
            except Exception as error:  # noqa: BLE001 -- a process whose beat ends is taken for dead
                say("warning", "lease.beat_failed", error=str(error).strip())

    def _beat(self) -> None:
        if not self._store.beat(self.worker_id):
            lost, self.worker_id = self.worker_id, self._store.register()
            log.warning("lease.lost", worker_id=lost)

    def _rescue(self) -> None:
        for job_id, what in self._store.rescue():
            log.warning(f"job.{what}", job_id=job_id, error="its worker died")

    def _name_unknown(self) -> None:
        for kind in self._store.unknown_kinds(self._kinds):
            if kind not in self._told:
                self._told.add(kind)
                log.warning("kind.unknown", kind=kind, hint="no worker here: its jobs wait")
