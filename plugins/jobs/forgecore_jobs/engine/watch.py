"""Watch: what runs here, its time limits, and how a run is interrupted.

A run is interrupted once, and only inside the user's function: whoever interrupts holds the
run's lock and finds it armed; the runner disarms under the same lock before it writes
anything. A thread that does not react is a lost slot.
"""

import asyncio
import ctypes
import heapq
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import Connection

from forgecore_jobs.engine.store import say
from forgecore_jobs.job import Claim

_LOST_S: Final = 5.0
_CANCEL_S: Final = 2.0
_CLOCKS_S: Final = 0.1
_TICK_S: Final = 1.0


class Interruption(BaseException):
    """Why a run was ended from outside. It is raised inside the user's function."""


class TimeLimitExceeded(Interruption):
    """The run took longer than its kind's `timeout`."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} ran longer than its timeout")


class Cancelled(Interruption):
    """Somebody asked for the job's end."""


class LeaseLost(Interruption):
    """Others took this process for dead, and the job is theirs."""


class GraceOver(Interruption):
    """The process has to go before the job ended."""


class _Interrupted(Interruption):
    """What is raised in a thread; the run knows the reason."""


class Run:
    """One run of a job: where it runs, and whether it may be interrupted now."""

    def __init__(self, claim: Claim, timeout_s: float | None) -> None:
        self.claim = claim
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.reason: Interruption | None = None
        self.is_lost = False
        self._armed = False
        self._lock = threading.Lock()
        self._thread = 0
        self._task: asyncio.Task[Any] | None = None
        self._connection: Callable[[], Connection[Any] | None] = lambda: None

    def arm(self, connection: Callable[[], Connection[Any] | None]) -> None:
        """Let this thread be interrupted, in a query of its connection too."""
        self._connection = connection
        self._thread = threading.get_ident()
        with self._lock:
            self._armed = True
            if self.reason is not None:
                self._armed = False
                raise _Interrupted

    def arm_task(self) -> None:
        """Let this task be interrupted."""
        self._task = asyncio.current_task()
        with self._lock:
            self._armed = True
            if self.reason is not None:
                self._armed = False
                raise asyncio.CancelledError

    def disarm(self) -> None:
        """End it: what comes too late is not raised any more."""
        with self._lock:
            self._armed = False
            if self.reason is not None and self._task is None and self._thread:
                _raise_in(self._thread, None)

    def interrupt(self, reason: Interruption) -> bool:
        """Interrupt the user's function; False if it is not running or was interrupted before."""
        with self._lock:
            if self.reason is not None:
                return False
            self.reason = reason
            if not self._armed:
                return True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._cancel_task)
                return True
            _raise_in(self._thread, _Interrupted)
            busy = self._connection() is not None
        if busy:
            # A query does not hear the exception: the server must end it.
            threading.Thread(target=self._cancel_query, name="forge-cancel", daemon=True).start()
        return True

    @property
    def is_over_time(self) -> bool:
        """Whether its time limit is over, but for what clocks differ."""
        return self.deadline is not None and time.monotonic() >= self.deadline - _CLOCKS_S

    @property
    def left_s(self) -> float | None:
        """What is left of its time limit, if it has one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @contextmanager
    def shield(self) -> Generator[None]:
        """Put an interruption of this thread off: what runs here must not end half-way."""
        if threading.get_ident() != self._thread:
            yield
            return
        with self._lock:
            was, self._armed = self._armed, False
            if was:
                _raise_in(self._thread, None)
        try:
            yield
        finally:
            with self._lock:
                self._armed = was
                if was and self.reason is not None:
                    self._armed = False
                    raise _Interrupted

    @property
    def stack(self) -> str:
        """Where the run stands, for a log line."""
        if self._task is not None:
            frames: Iterable[Any] = self._task.get_stack()
            return "".join(
                f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}\n"
                for frame in frames
            )
        return stack_of(self._thread)

    def _cancel_task(self) -> None:
        # In the loop, where the task waits in the user's function or has been disarmed.
        if self._armed and self._task is not None:
            self._task.cancel()

    def _cancel_query(self) -> None:
        with self._lock:
            conn = self._connection() if self._armed else None
            if conn is not None:
                with suppress(psycopg.Error):
                    conn.cancel_safe(timeout=_CANCEL_S)


class Watch:
    """The runs of this process, and a thread that looks after their time limits."""

    def __init__(self, give_up: Callable[[Run], None]) -> None:
        self._give_up = give_up
        self.tick: Callable[[], None] = lambda: None
        self._runs: dict[tuple[int, int], Run] = {}
        self._due: list[tuple[float, int, Run]] = []
        self._count = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._lost: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._loop, name="forge-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(1)

    @property
    def lost_slots(self) -> int:
        """How many runs did not end when they were interrupted, and still hold their slot."""
        return self._lost.total()

    def is_unhealthy(self, limits: Mapping[str, int]) -> bool:
        """Whether half of some queue's slots, or more, are lost."""
        return any(lost and lost * 2 >= limits[queue] for queue, lost in self._lost.items())

    @property
    def running(self) -> int:
        """How many runs have not ended."""
        return len(self._runs)

    def begin(self, claim: Claim, timeout_s: float | None) -> Run:
        """Note a run; it is interrupted when its time is over."""
        run = Run(claim, timeout_s)
        self._runs[claim.id, claim.attempt] = run
        if run.deadline is not None:
            self._schedule(run.deadline, run)
        return run

    def end(self, run: Run) -> None:
        """Forget a run."""
        self._runs.pop((run.claim.id, run.claim.attempt), None)
        if run.is_lost:
            self._lost[run.claim.queue] -= 1

    def interrupt(
        self, reason: Callable[[], Interruption], ids: Iterable[int] | None = None
    ) -> None:
        """Interrupt the runs of these jobs, or of all."""
        wanted = None if ids is None else set(ids)
        for run in list(self._runs.values()):
            if wanted is None or run.claim.id in wanted:
                self._interrupt(run, reason())

    def _interrupt(self, run: Run, reason: Interruption) -> None:
        if run.interrupt(reason):
            self._schedule(time.monotonic() + _LOST_S, run)

    def _schedule(self, when: float, run: Run) -> None:
        with self._changed:
            self._count += 1
            heapq.heappush(self._due, (when, self._count, run))
            if self._due[0][2] is run:
                self._changed.notify()

    def _loop(self) -> None:
        while not self._stopped:
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 -- without this thread nothing has a limit
                say("error", "watch.interrupted", error=repr(error))
            for run in self._wait():
                try:
                    self._look_at(run)
                except Exception as error:  # noqa: BLE001 -- the others have limits too
                    say("error", "watch.interrupted", error=repr(error))

    def _wait(self) -> list[Run]:
        with self._changed:
            left = self._due[0][0] - time.monotonic() if self._due else _TICK_S
            if left > 0:
                self._changed.wait(min(left, _TICK_S))
            now = time.monotonic()
            over: list[Run] = []
            while self._due and self._due[0][0] <= now:
                over.append(heapq.heappop(self._due)[2])
            return over

    def _look_at(self, run: Run) -> None:
        claim = run.claim
        if self._runs.get((claim.id, claim.attempt)) is not run:
            return
        if run.reason is None:
            self._interrupt(run, TimeLimitExceeded(claim.kind))
        elif not run.is_lost:
            run.is_lost = True
            self._lost[claim.queue] += 1
            self._give_up(run)
            keys = {"kind": claim.kind, "job_id": claim.id, "attempt": claim.attempt}
            why = type(run.reason).__name__
            say("error", "slot.lost", **keys, reason=why, lost=self.lost_slots, stack=run.stack)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    what = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def stack_of(thread: int) -> str:
    """Return where a thread stands, for a log line."""
    # There is no other way than the interpreter's own.
    frame = sys._current_frames().get(thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return "".join(traceback.format_stack(frame)) if frame else ""
