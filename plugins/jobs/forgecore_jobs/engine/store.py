"""Store: the engine's statements as functions, on one connection, made anew when it breaks."""

import os
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg
import structlog
from attrs import frozen
from psycopg import Connection
from psycopg.rows import TupleRow

from forgecore.runtime import NotMigratedError
from forgecore_jobs import sql
from forgecore_jobs.job import Again, Claim, Finished, Outcome

log: Final = structlog.stdlib.get_logger("forgecore_jobs")


def say(level: str, event: str, **keys: object) -> None:
    """Log something; a log that cannot be written is no reason to lose an outcome or a thread."""
    with suppress(Exception):
        getattr(keys.pop("by", log), level)(event, **keys)


LEASE: Final = timedelta(seconds=10)
"""A process that has not beaten for so long is dead, or must think so itself."""

MOST_KILLS: Final = 3
"""A job whose worker died so often is given up: it is likely what kills them."""


@frozen(kw_only=True)
class Settled:
    """How a run ended, fenced by the claim that it belongs to."""

    claim: Claim
    outcome: Outcome


class Held:
    """The claims, as (id, attempt), whose outcome this process has not written yet."""

    def __init__(self) -> None:
        self._ids: set[tuple[int, int]] = set()
        self._turn = threading.Lock()

    def add(self, claims: Iterable[Claim]) -> None:
        """Note claims."""
        with self._turn:
            self._ids.update((claim.id, claim.attempt) for claim in claims)

    def discard(self, claims: Iterable[Claim]) -> None:
        """Forget claims that are settled, given back or lost."""
        with self._turn:
            self._ids.difference_update((claim.id, claim.attempt) for claim in claims)

    def ids(self) -> tuple[list[int], list[int]]:
        """Return the ids, and the attempt of each."""
        with self._turn:
            return [job for job, _ in self._ids], [attempt for _, attempt in self._ids]


class Store:
    """One connection to the jobs' tables. Calls of several threads take turns.

    Every call raises psycopg.OperationalError when the server does not answer; the next one
    connects anew.
    """

    def __init__(self, url: str, *, name: str, held: "Held | None" = None) -> None:
        self._url = url
        self._held = held or Held()
        self._name = name
        self._turn = threading.Lock()
        self._conn: Connection[TupleRow] | None = None
        self._doubtful = False

    @property
    def held(self) -> Held:
        """The claims of this process."""
        return self._held

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._drop()

    def register(self) -> int:
        """Enter this process among the workers and return its id.

        NotMigratedError if the tables are not there.
        """
        params = {"host": socket.gethostname(), "pid": os.getpid()}
        try:
            rows = self._run(sql.REGISTER, params)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise NotMigratedError("the jobs' tables are not in the database") from error
        return int(rows[0][0])

    def beat(self, worker: int) -> bool:
        """Say that the process lives; False if others took it for dead."""
        return bool(self._run(sql.BEAT, {"worker": worker}))

    def leave(self, worker: int) -> list[int]:
        """Take this process off the list; return the jobs that it still ran, now given back."""
        return [row[0] for row in self._run(sql.LEAVE, {"worker": worker})]

    def rescue(self) -> list[tuple[int, str]]:
        """Free the jobs of dead processes; return (id, "rescued" or "discarded") of each."""
        params = {"lease": LEASE, "most_kills": MOST_KILLS}
        return [(row[0], row[1]) for row in self._run(sql.RESCUE, params)]

    def claim(
        self, worker: int, queue: str, kinds: Sequence[str], limit: int, max_attempts: int
    ) -> list[Claim]:
        """Take up to `limit` due jobs of a queue, first priority first."""
        params = {
            "worker": worker,
            "queue": queue,
            "kinds": list(kinds),
            "limit": limit,
            "max_attempts": max_attempts,
        }
        with self._turn:
            if self._doubtful:
                # A claim may have been made whose answer never came.
                ids, attempts = self._held.ids()
                unknown = {"worker": worker, "ids": ids, "attempts": attempts}
                self._execute(sql.GIVE_BACK_UNKNOWN, unknown)
                self._doubtful = False
            self._doubtful = True
            rows = self._execute(sql.CLAIM, params)
            self._doubtful = False
            # An update returns its rows in no particular order: priority, run_at, id.
            ordered = sorted(rows, key=lambda row: (row[10], row[11], row[0]))
            claims = [_claim(row, worker) for row in ordered]
            self._held.add(claims)
        return claims

    def unknown_kinds(self, kinds: Sequence[str]) -> list[str]:
        """Return the kinds that wait and that this process has no worker for."""
        return sorted(row[0] for row in self._run(sql.UNKNOWN_KINDS, {"kinds": list(kinds)}))

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Let others run claims that were never started; no failure is counted."""
        if claims:
            params = {
                "ids": [claim.id for claim in claims],
                "attempts": [claim.attempt for claim in claims],
                "worker": claims[0].worker_id,
            }
            self._run(sql.GIVE_BACK, params)
            self._held.discard(claims)

    def settle(self, batch: Sequence[Settled]) -> set[int]:
        """Write outcomes in one transaction; return the ids whose claim still held."""
        finished = [one for one in batch if isinstance(one.outcome, Finished)]
        again = [one for one in batch if isinstance(one.outcome, Again)]
        with self._turn:
            conn = self._connection()
            try:
                with conn.transaction():
                    rows: list[TupleRow] = []
                    if finished:
                        rows += conn.execute(sql.FINISH, finish_params(finished)).fetchall()
                    if again:
                        rows += conn.execute(sql.AGAIN, _again_params(again)).fetchall()
            except psycopg.OperationalError:
                self._drop()
                raise
        return {row[0] for row in rows}

    def _run(self, statement: LiteralString, params: Mapping[str, object]) -> list[TupleRow]:
        with self._turn:
            return self._execute(statement, params)

    def _execute(self, statement: LiteralString, params: Mapping[str, object]) -> list[TupleRow]:
        conn = self._connection()
        try:
            cursor = conn.execute(statement, params)
            return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            self._drop()
            raise

    def _connection(self) -> Connection[TupleRow]:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=10,
                application_name=f"forgecore {self._name}",
                prepare_threshold=None,
            )
        return self._conn

    def _drop(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def finish_params(batch: Sequence[Settled]) -> dict[str, Any]:
    """Return the parameters of FINISH; every outcome of `batch` is Finished."""
    states = [one.outcome.state for one in batch if isinstance(one.outcome, Finished)]
    return {"states": states, **_common(batch)}


def _again_params(batch: Sequence[Settled]) -> dict[str, Any]:
    delays = [one.outcome.delay for one in batch if isinstance(one.outcome, Again)]
    return {"delays": delays, **_common(batch)}


def _common(batch: Sequence[Settled]) -> dict[str, Any]:
    failures = [one.outcome.failure for one in batch]
    return {
        "ids": [one.claim.id for one in batch],
        "attempts": [one.claim.attempt for one in batch],
        "workers": [one.claim.worker_id for one in batch],
        "errors": [failure.error if failure else None for failure in failures],
        "messages": [failure.message if failure else None for failure in failures],
        "tracebacks": [failure.traceback if failure else None for failure in failures],
    }


def _claim(row: TupleRow, worker: int) -> Claim:
    return Claim(
        id=row[0],
        kind=row[1],
        queue=row[2],
        args=row[3],
        tenant_id=row[4],
        metadata=row[5],
        attempt=row[6],
        failures=row[7],
        max_attempts=row[8],
        backoff=row[9],
        worker_id=worker,
    )
