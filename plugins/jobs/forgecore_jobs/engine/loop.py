"""EventLoop: one event loop in a thread of its own, for every `async def` worker."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from forgecore_jobs.engine.store import say
from forgecore_jobs.engine.watch import stack_of

T = TypeVar("T")
_LAG_S: Final = 1.0


class EventLoop:
    """One event loop in a thread of its own, for every `async def` worker of the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._asked: float | None = None
        self._told = False
        self._thread = threading.Thread(target=self._run_loop, name="forge-loop", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine in the loop and wait for its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def start_all(self, coroutines: Iterable[Coroutine[Any, Any, object]]) -> None:
        """Begin coroutines, a task for each."""
        self._loop.call_soon_threadsafe(self._begin, list(coroutines))

    def look(self) -> None:
        """Note whether the loop still turns; a worker that blocks it is named by its stack.

        To be called every second or so.
        """
        now = time.monotonic()
        if self._asked is not None and now - self._asked > _LAG_S:
            stack = stack_of(self._thread.ident or 0)
            if not self._told:
                say("warning", "loop.blocked", seconds=round(now - self._asked, 1), stack=stack)
            self._told = True
        elif self._asked is None:
            self._told = False
            self._asked = now
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._asked = None

    def _begin(self, coroutines: list[Coroutine[Any, Any, object]]) -> None:
        for coroutine in coroutines:
            task = self._loop.create_task(coroutine)
            # The loop itself holds tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
