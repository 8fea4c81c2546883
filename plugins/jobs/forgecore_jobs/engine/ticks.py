"""Ticks: the jobs of periodic entries, written by whichever process looks first."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from attrs import frozen
from psycopg import Connection
from psycopg.types.json import Jsonb

from forgecore_jobs import sql
from forgecore_jobs.engine.store import Store, say
from forgecore_jobs.insert import Node, columns_of, insert_of, metadata_of
from forgecore_jobs.periodic import Periodic
from forgecore_jobs.steps import Call
from forgecore_jobs.wiring import Wiring

_LATE: Final = timedelta(minutes=1)
"""A tick without catch_up that is older was missed, if its worker has looked meanwhile."""
_MOST: Final = 1000
"""Ticks of an entry that are caught up in one transaction; the rest follows at the next look."""


class Ticks:
    """The periodic entries of this process."""

    def __init__(
        self,
        store: Store,
        entries: Sequence[Periodic],
        wiring: Wiring,
        versions: Mapping[str, int],
    ) -> None:
        self._store = store
        self._entries = {entry.name: entry for entry in entries}
        self._definitions = [entry.definition for entry in entries]
        self._wiring = wiring
        self._versions = versions
        self._is_entered = not entries
        self._looked = time.monotonic()

    def look(self) -> None:
        """Write the jobs of every tick that has come. To be called every second or so."""
        if not self._entries:
            return
        if not self._is_entered:
            self._store.within(self._enter)
            self._is_entered = True
        while self._store.within(self._fire):
            pass

    def see(self) -> None:
        """Say that a process has these entries; every minute or so."""
        if self._entries:
            self._store.within(self._see)

    def _enter(self, conn: Connection[Any]) -> None:
        for name in sorted(self._entries):
            entry = self._entries[name]
            upcoming = next(entry.ticks(begin_of(conn, name)))
            given = {"name": name, "kind": entry.kind, "clock": entry.clock}
            more = {"definition": entry.definition, "next_at": upcoming}
            conn.execute(sql.ENTER_PERIODIC, {**given, **more})

    def _see(self, conn: Connection[Any]) -> None:
        given = {"definitions": self._definitions}
        conn.execute(sql.SEE_PERIODIC, given)
        left = conn.execute(sql.LEFT_PERIODIC, {**given, "names": list(self._entries)}).fetchall()
        if left:
            say("warning", "periodic.taken_back", entries=[name for (name,) in left])
            self._is_entered = False

    def _fire(self, conn: Connection[Any]) -> bool:
        """Write what is due; True if there may be more."""
        missed = max(_LATE, timedelta(seconds=time.monotonic() - self._looked))
        self._looked = time.monotonic()
        more = False
        given = {"definitions": self._definitions}
        # Who waits here, for a key or a sequence, rescues nobody meanwhile.
        conn.execute("SET LOCAL lock_timeout = '1s'")
        for name, first, last_job, now in conn.execute(sql.DUE_PERIODIC, given).fetchall():
            try:
                # What one entry cannot write stops no other.
                with conn.transaction():
                    more |= self._fire_one(
                        conn, self._entries[name], _Due(first, now, last_job, missed)
                    )
            except psycopg.errors.LockNotAvailable:
                say("info", "periodic.waits", entry=name)
            except psycopg.OperationalError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever the entry makes of it
                say("error", "periodic.failed", entry=name, error=str(error).strip())
        return more

    def _fire_one(self, conn: Connection[Any], entry: Periodic, due: "_Due") -> bool:
        ticks = (
            entry.due(due.first, due.now, _MOST)
            if entry.catch_up == "all"
            else [entry.newest(due.first, due.now)]
        )
        is_missed = entry.catch_up == "none" and due.now - ticks[-1] > due.missed
        job: int | None = None
        for tick in [] if is_missed else ticks:
            last = due.last_job if job is None else job
            if not entry.overlap and conn.execute(sql.IS_LIVE, {"job": last}).fetchone() == (True,):
                say("info", "periodic.skipped", entry=entry.name, tick=tick.isoformat())
                continue
            job = write(conn, entry, tick, self._wiring, self._versions.get(entry.kind, 1))
            say("info", "periodic.enqueued", entry=entry.name, tick=tick.isoformat(), job_id=job)
        advanced = {"name": entry.name, "last_at": ticks[-1], "last_job": job}
        conn.execute(sql.ADVANCE_PERIODIC, {**advanced, "next_at": next(entry.ticks(ticks[-1]))})
        return len(ticks) == _MOST


@frozen
class _Due:
    """An entry's first tick that is due, the server's time, its last job, what is a missed tick."""

    first: datetime
    now: datetime
    last_job: int | None
    missed: timedelta


def begin_of(conn: Connection[Any], name: str) -> datetime:
    """Return what an entry's next tick comes after: now, or its last tick if that is later."""
    moment: datetime = conn.execute(sql.LAST_PERIODIC, {"name": name}).fetchall()[0][0]
    return moment


def write(
    conn: Connection[Any], entry: Periodic, tick: datetime, wiring: Wiring, version: int
) -> int:
    """Write the job of a tick and return its id, or that of the job that it is the same as.

    `version` is that of the kind's arguments, as the entry writes them.
    """
    call = Call(queue=entry.queue, run_at=tick, priority=entry.priority)
    turn = wiring.turn_of(entry.kind, entry.args.get("resource_id"))
    own = metadata_of(version, turn)
    values: dict[LiteralString, object] = {
        **columns_of(entry.kind, call, wiring),
        "args": Jsonb(dict(entry.args)),
        "tenant_id": entry.args.get("tenant_id"),
        "metadata": Jsonb({**own, "periodic": entry.name, "tick": tick.isoformat()}),
    }
    node = Node(values=values, unique=wiring.unique_of(entry.kind), turn=turn)
    statement, params = insert_of([node])
    row = conn.execute(statement, params).fetchone()
    if row is None or row[0] is None:
        raise LookupError(f"the job of {entry.name!r} was suppressed")
    return int(row[0])
