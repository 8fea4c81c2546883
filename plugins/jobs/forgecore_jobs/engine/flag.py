"""Flag: what a signal handler sets and the thread that it interrupts waits for."""

import os
import select
from contextlib import suppress
from typing import Protocol


class Waited(Protocol):
    """What a loop asks whether it is to end."""

    def is_set(self) -> bool:
        """Whether it was set."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait for it, for so many seconds at most; return whether it was set."""
        ...


class Flag:
    """Like threading.Event, but without a lock.

    A handler runs in the middle of whatever the main thread does. If that is the wait for an
    Event, and at the wrong instruction, setting the same Event waits for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it; every wait ends."""
        self._is_set = True
        # A full pipe wakes as well.
        with suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def wait(self, timeout: float) -> bool:
        """Wait for it, for so many seconds at most; return whether it was set."""
        if not self._is_set:
            # Nothing is read: who waits later must not wait either.
            select.select([self._read], [], [], timeout)
        return self._is_set
