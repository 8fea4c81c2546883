"""ClaimLoop: claim what can start, hand it to threads and event loop, sleep while there is none."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg

from forgecore_jobs.engine.floors import Claimer
from forgecore_jobs.engine.slots import Slots
from forgecore_jobs.engine.store import Store, say
from forgecore_jobs.job import Claim

_TICK_S: Final = 0.002
_SHORTEST_S: Final = 0.02
_LONGEST_S: Final = 0.5
_FAILED_S: Final = 1.0
_VAIN_S: Final = 0.3
"""After a wake-up for jobs that are others', so long without asking for the next one."""
_LONGEST_REST_S: Final = 1.0
_DEAR: Final = 20
"""A look that finds nothing takes a twentieth of the time at most: many jobs of others are dear."""


class ClaimLoop:
    """The loop of a worker process. `wake` ends its sleep."""

    def __init__(
        self,
        *,
        store: Store,
        claimer: Claimer,
        slots: Slots,
        worker_id: Callable[[], int],
        start: Callable[[Sequence[Claim]], None],
        grow: Callable[[], bool],
    ) -> None:
        self._store = store
        self._claimer = claimer
        self._slots = slots
        self._worker_id = worker_id
        self._start = start
        self._grow = grow
        self.may_sleep: Callable[[], bool] = lambda: False
        self._event = threading.Event()
        self._stopped = False
        self._pause_s = _SHORTEST_S
        self._awake_until = 0.0

    def wake(self) -> None:
        """Look for jobs now."""
        self._event.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopped = True
        self._event.set()

    def run(self) -> None:
        """Claim until `stop`."""
        while not self._stopped:
            woken = self._event.is_set()
            self._event.clear()
            try:
                self._turn(woken=woken)
            except psycopg.Error as error:
                say("warning", "claims.failed", error=str(error).strip())
                self._event.wait(_FAILED_S)
            except Exception as error:  # noqa: BLE001 -- without this loop the process is deaf
                say("error", "claims.interrupted", error=repr(error))
                self._event.wait(_FAILED_S)

    def _may_sleep(self) -> bool:
        is_time = time.monotonic() >= self._awake_until
        return is_time and self.may_sleep() and not self._store.is_asleep

    def _turn(self, *, woken: bool) -> None:
        wanted = self._slots.wanted()
        found: list[Claim] = []
        begun = time.monotonic()
        if wanted:
            found = self._claimer.claim(self._store, self._worker_id(), wanted)
        rest_s = min((time.monotonic() - begun) * _DEAR, _LONGEST_REST_S)
        if found:
            self._slots.take(found)
            self._start(found)
            self._pause_s = _SHORTEST_S
            self._store.wake()
        elif woken and self._store.is_asleep:
            # What others enqueue would wait for each other to notify this process in vain.
            self._store.wake()
            self._pause_s = _SHORTEST_S
            self._awake_until = time.monotonic() + max(_VAIN_S, rest_s)
        # Where every slot is taken, the next to be freed wakes the loop.
        behind = bool(self._claimer.behind & wanted.keys())
        if behind or self._grow():
            # More waits than runs, or claims wait for threads: the next look is near.
            self._hurry(behind)
        elif not found and self._may_sleep():
            # Whoever enqueues from now on notifies; whoever did before is found by one more look.
            self._store.sleep()
        else:
            self._event.wait(self._pause_s if found else max(self._pause_s, rest_s))
            self._pause_s = min(self._pause_s * 2, _LONGEST_S)

    def _hurry(self, behind: bool) -> None:
        while not self._stopped and self._grow():
            if self._event.wait(_TICK_S) or (behind and self._slots.wanted()):
                break
        else:
            # Where every slot is taken, the next to be freed ends the wait.
            if not behind:
                return
            if not self._slots.wanted():
                self._event.wait(_LONGEST_S)
        if not self._slots.are_half_free():
            # Claims of single jobs would cost more than the jobs.
            time.sleep(_TICK_S / 2)
