"""Ticks: the jobs of periodic entries, written by whichever process looks first."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from psycopg import Connection
from psycopg.types.json import Jsonb

from forgecore_jobs import sql
from forgecore_jobs.engine.store import Store, say
from forgecore_jobs.insert import Call, columns_of, insert_of
from forgecore_jobs.job import VERSION
from forgecore_jobs.periodic import Periodic
from forgecore_jobs.wiring import Wiring

_LATE: Final = timedelta(minutes=1)
"""A tick without catch_up that is older was missed."""
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
            self._store.within(
                lambda conn: conn.execute(sql.SEE_PERIODIC, {"definitions": self._definitions})
            )

    def _enter(self, conn: Connection[Any]) -> None:
        now = conn.execute(sql.NOW).fetchall()[0][0]
        for name in sorted(self._entries):
            entry = self._entries[name]
            given = {"name": name, "kind": entry.kind, "clock": entry.clock}
            more = {"definition": entry.definition, "next_at": next(entry.ticks(now))}
            conn.execute(sql.ENTER_PERIODIC, {**given, **more})

    def _fire(self, conn: Connection[Any]) -> bool:
        """Write what is due; True if there may be more."""
        more = False
        given = {"definitions": self._definitions}
        for name, first, now, is_unfinished in conn.execute(sql.DUE_PERIODIC, given).fetchall():
            entry = self._entries[name]
            ticks = entry.due(first, now)[:_MOST]
            more = more or len(ticks) == _MOST
            job: int | None = None
            for tick in _wanted(entry, ticks, now):
                if not entry.overlap and (is_unfinished or job is not None):
                    say("info", "periodic.skipped", entry=name, tick=tick.isoformat())
                    continue
                job = write(conn, entry, tick, self._wiring, self._versions.get(entry.kind, 1))
                say("info", "periodic.enqueued", entry=name, tick=tick.isoformat(), job_id=job)
            advanced = {"name": name, "last_at": ticks[-1], "last_job": job}
            conn.execute(
                sql.ADVANCE_PERIODIC, {**advanced, "next_at": next(entry.ticks(ticks[-1]))}
            )
        return more


def write(
    conn: Connection[Any], entry: Periodic, tick: datetime, wiring: Wiring, version: int
) -> int:
    """Write the job of a tick and return its id, or that of the job that it is the same as.

    `version` is that of the kind's arguments, as the entry writes them.
    """
    of_version = {VERSION: str(version)} if version > 1 else {}
    values: dict[LiteralString, object] = {
        **columns_of(entry.kind, Call(entry.queue, tick, entry.priority, None), wiring),
        "args": Jsonb(dict(entry.args)),
        "tenant_id": entry.args.get("tenant_id"),
        "metadata": Jsonb({**of_version, "periodic": entry.name, "tick": tick.isoformat()}),
    }
    statement, params = insert_of(values, wiring.unique_of(entry.kind))
    row = conn.execute(statement, params).fetchone()
    if row is None:
        raise LookupError(f"the job of {entry.name!r} was suppressed")
    return int(row[0])


def _wanted(entry: Periodic, ticks: Sequence[datetime], now: datetime) -> list[datetime]:
    pick: dict[str, Callable[[], list[datetime]]] = {
        "none": lambda: [tick for tick in ticks[-1:] if now - tick <= _LATE],
        "last": lambda: list(ticks[-1:]),
        "all": lambda: list(ticks),
    }
    return pick[entry.catch_up]()
