"""Slots: how many jobs of each queue run here, and the threads that run them."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from forgecore_jobs.engine.store import say
from forgecore_jobs.job import Claim

_IDLE_S: Final = 30.0
_LOOK_S: Final = 0.004
_BUSY: Final = 0.7
"""Share of a core from which on the process computes more than it waits."""


class Slots:
    """What is free of each queue's limit. `freed` is called when a claim is worth its while."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self._out = dict.fromkeys(limits, 0)
        self.freed: Callable[[], None] = lambda: None
        self._turn = threading.Lock()

    @property
    def total(self) -> int:
        """How much the limits allow at once."""
        return sum(self._limits.values())

    def wanted(self) -> dict[str, int]:
        """Return how many jobs of each queue could start now."""
        with self._turn:
            free = {queue: limit - self._out[queue] for queue, limit in self._limits.items()}
        return {queue: count for queue, count in free.items() if count > 0}

    def are_half_free(self) -> bool:
        """Whether half of some queue's limit is free."""
        with self._turn:
            return any(self._out[queue] <= limit // 2 for queue, limit in self._limits.items())

    def take(self, claims: Iterable[Claim]) -> None:
        """Take a slot for each claim."""
        with self._turn:
            for claim in claims:
                self._out[claim.queue] += 1

    def release(self, queue: str) -> None:
        """Free a slot."""
        with self._turn:
            self._out[queue] -= 1
            # One claim for each job that ends would cost more than the jobs.
            out, limit = self._out[queue], self._limits[queue]
            worth_it = out <= limit // 2 or out == limit - 1
        if worth_it:
            self.freed()


class Threads:
    """Threads that run claims. There are as many as work at once needs, up to a limit."""

    def __init__(self, run: Callable[[Claim], None], most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: SimpleQueue[Claim | None] = SimpleQueue()
        self._count = 0
        self._idle = 0
        self._done = 0
        self._done_before = 0
        self._looked = 0.0
        self._cpu = 0.0
        self._turn = threading.Lock()

    def put(self, claims: Iterable[Claim]) -> None:
        """Run these claims."""
        for claim in claims:
            self._waiting.put(claim)
        if not self._idle:
            self._add(1)

    def grow(self) -> bool:
        """Add threads if claims wait and none is idle; False if none wait.

        To be called every few milliseconds. Jobs that are short, or that compute, are not run
        faster by more threads, which only get in each other's way; jobs that wait are.
        """
        waiting = self._waiting.qsize()
        if not waiting:
            return False
        now, cpu = time.monotonic(), time.process_time()
        if now - self._looked < _LOOK_S:
            return True
        done = self._done - self._done_before
        load = (cpu - self._cpu) / (now - self._looked)
        self._looked, self._cpu, self._done_before = now, cpu, self._done
        if not self._idle and (not done or (done < self._count and load < _BUSY)):
            self._add(min(waiting, max(1, self._count)))
        return True

    def take_back(self) -> list[Claim]:
        """Return the claims that no thread has begun."""
        found: list[Claim] = []
        with suppress(Empty):
            while True:
                if (claim := self._waiting.get_nowait()) is not None:
                    found.append(claim)
        return found

    def stop(self) -> None:
        """End the threads that have nothing to do."""
        for _ in range(self._count):
            self._waiting.put(None)

    def _add(self, count: int) -> None:
        with self._turn:
            count = min(count, self._most - self._count)
            self._count += max(0, count)
        for started in range(count):
            try:
                threading.Thread(target=self._loop, name="forge-job", daemon=True).start()
            except RuntimeError as error:
                # The machine has no more; those that end make room.
                with self._turn:
                    self._count -= count - started
                say("warning", "thread.not_started", error=str(error), threads=self._count)
                return

    def _loop(self) -> None:
        while True:
            with self._turn:
                self._idle += 1
                self._done += 1
            try:
                claim = self._waiting.get(timeout=_IDLE_S)
            except Empty:
                # What was put just now is found by the next look.
                claim = None
            with self._turn:
                self._idle -= 1
                if claim is None:
                    self._count -= 1
                    return
            try:
                self._run(claim)
            except BaseException as error:  # noqa: BLE001 -- a thread that dies is a slot less
                say("error", "thread.interrupted", error=repr(error))
