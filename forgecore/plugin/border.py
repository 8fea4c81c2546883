"""The border to a plugin: what it prints goes aside, and it must come back."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, Final, TextIO, cast

_REPLACED: Final[list[object]] = []


class TookTooLong(BaseException):
    """A plugin did not come back in time."""


class _Stdout:
    """Stands for stdout inside the border, and leads to stderr there.

    A library that is imported inside may keep it: outside it leads to where stdout does.
    """

    def __init__(self) -> None:
        self.target = sys.stderr

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever a stream has
        return getattr(self.target, name)


@contextmanager
def _aside() -> Iterator[None]:
    outside = sys.stdout
    inside = _Stdout()
    sys.stdout = cast("TextIO", inside)
    try:
        yield
    finally:
        if cast("object", sys.stdout) is not inside:
            # A stream of the plugin's own, which would take ours along when it is collected.
            _REPLACED.append(sys.stdout)
        sys.stdout = outside
        inside.target = outside


@contextmanager
def guarded(timeout: timedelta) -> Iterator[None]:
    """Run a plugin's code; TookTooLong where it stands when the time is over.

    The limit is a timer of the process: there is none in other threads, or on Windows. Output of
    a build may be read by machines, so what a plugin prints goes to stderr.
    """
    with _aside():
        if not hasattr(signal, "setitimer") or (
            threading.current_thread() is not threading.main_thread()
        ):
            yield
            return

        def stop(_number: int, _frame: FrameType | None) -> None:
            seconds = f"{timeout.total_seconds():g} s"
            raise TookTooLong(f"it has not come back in {seconds} ([project] plugin_timeout)")

        begun = time.monotonic()
        before = signal.signal(signal.SIGALRM, stop)
        # A test's own limit, or one around this: it goes on where it stood.
        left, interval = signal.setitimer(signal.ITIMER_REAL, timeout.total_seconds())
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if left:
                rest = max(left - (time.monotonic() - begun), 0.001)
                signal.setitimer(signal.ITIMER_REAL, rest, interval)
