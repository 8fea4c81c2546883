"""Several worker processes under one parent: signals go on to them, a dead one is started anew."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Final

from forgecore_jobs.engine.flag import Flag
from forgecore_jobs.engine.store import say

PARENT: Final = "FORGE_JOBS_PARENT"
"""The parent's pid, for a child that must not outlive it."""

_AGAIN_S: Final = 1.0
_LOOK_S: Final = 0.2


def run_processes(count: int) -> int:
    """Run `count` workers until SIGTERM or SIGINT; return the exit status of the worst."""
    stopping = Flag()
    children: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM if number == signal.SIGINT else number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    children.extend(_start() for _ in range(count))
    while not stopping.wait(_LOOK_S):
        for index, child in enumerate(children):
            if (status := child.poll()) is None:
                continue
            if status in {1, 2}:
                # What the user has to mend is no better the second time.
                stop(signal.SIGTERM, None)
                break
            say("error", "process.died", pid=child.pid, status=status)
            time.sleep(_AGAIN_S)
            if not stopping.is_set():
                children[index] = _start()
    # One that was started while the signal came has not been told.
    stop(signal.SIGTERM, None)
    # A child that was told to end before it listened has ended as it should.
    ended = [abs(child.wait()) for child in children]
    return max(0 if status == signal.SIGTERM else status for status in ended)


def end_with_parent() -> None:
    """End this process when its parent, another worker command, is gone."""
    parent = int(os.environ.get(PARENT, "0"))
    if not parent:
        return

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, name="forge-parent", daemon=True).start()


def _start() -> "subprocess.Popen[bytes]":
    # In a group of its own: Ctrl-C reaches the parent alone, which passes it on.
    return subprocess.Popen(
        [sys.executable, "-m", "forgecore", "jobs", "work"],
        env={**os.environ, PARENT: str(os.getpid())},
        start_new_session=True,
    )
