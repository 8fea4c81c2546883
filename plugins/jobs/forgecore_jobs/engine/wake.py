"""Listener: LISTEN on a connection of its own, so that a sleeping worker hears of new jobs.

Behind a pooler that gives each transaction another connection nothing is heard, and a lock of
the session would be left with a stranger: so the listener is sent a notification first.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import Connection

from forgecore_jobs.engine.store import say

_CHANNEL: Final = "forge_jobs"
_TEST_S: Final = 2.0
_SLICE_S: Final = 1.0
_AGAIN_S: Final = 5.0
_POOLED_S: Final = 600.0


class Listener:
    """Calls `heard` at every notification. `is_heard` says whether they arrive at all."""

    def __init__(self, url: str, heard: Callable[[], None]) -> None:
        self._url = url
        self._heard = heard
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="forge-listen", daemon=True)
        self.is_heard = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it may take a second more."""
        self._stopped.set()

    def _loop(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            pause = _AGAIN_S
            try:
                with self._connected() as conn:
                    if not self._hears(conn):
                        say("info", "listen.unheard", hint="polling: a pooler is in between")
                        pause = _POOLED_S
                        continue
                    self.is_heard = True
                    while not self._stopped.is_set():
                        for _ in conn.notifies(timeout=_SLICE_S, stop_after=1):
                            self._heard()
            except psycopg.Error as error:
                say("warning", "listen.failed", error=str(error).strip())
            finally:
                self.is_heard = False

    def _hears(self, conn: Connection[Any]) -> bool:
        conn.execute(f"LISTEN {_CHANNEL}")
        own = conn.info.backend_pid
        with self._connected() as other:
            other.execute("SELECT pg_notify(%s, 'test')", (_CHANNEL,))
        heard = any(True for _ in conn.notifies(timeout=_TEST_S, stop_after=1))
        row = conn.execute("SELECT pg_backend_pid()").fetchone()
        return heard and row is not None and row[0] == own

    def _connected(self) -> Connection[Any]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=10,
            application_name="forgecore listen",
            prepare_threshold=None,
        )
