"""Store: the engine's statements as functions, on one connection, made anew when it breaks."""

import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, LiteralString, TypeVar, cast

import psycopg
import structlog
from attrs import frozen
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from forgecore import __version__
from forgecore.runtime import NotMigratedError
from forgecore_jobs import sql
from forgecore_jobs.job import PASSES, Again, Claim, Finished, Outcome
from forgecore_jobs.limits import Limit

R = TypeVar("R")
log: Final = structlog.stdlib.get_logger("forgecore_jobs")


def say(level: str, event: str, **keys: object) -> None:
    """Log something; a log that cannot be written is no reason to lose an outcome or a thread."""
    with suppress(Exception):
        getattr(keys.pop("by", log), level)(event, **keys)


LEASE: Final = timedelta(seconds=10)
"""A process that has not beaten for so long is dead, or must think so itself."""

MOST_KILLS: Final = 3
"""A job whose worker died so often is given up: it is likely what kills them."""
_SUSPECT_KILLS: Final = 2
"""A job whose worker died so often runs with no other of its sort, as jobs_claim() has it."""


@frozen(kw_only=True)
class Settled:
    """How a run ended, fenced by the claim that it belongs to."""

    claim: Claim
    outcome: Outcome


@frozen(kw_only=True)
class Entry:
    """What a worker process says of itself: its limits, kinds and time limits."""

    limits: Mapping[str, int]
    kinds: Sequence[str]
    timeouts: Mapping[str, float]


@frozen
class Level:
    """Where a claim begins to look, for one priority of a queue: behind (time, id)."""

    queue: str
    priority: int
    time: datetime
    id: int


@frozen(kw_only=True)
class Look:
    """Whose claim it is, and where and in which order of priorities it looks."""

    worker: int
    kinds: Sequence[str]
    max_attempts: int
    floors: Sequence[Level]
    priorities: Sequence[int]


class Held:
    """The claims, as (id, attempt), whose outcome this process has not written yet."""

    def __init__(self) -> None:
        self._ids: set[tuple[int, int]] = set()
        self._suspects: set[tuple[int, int]] = set()
        self._turn = threading.Lock()

    @property
    def has_suspect(self) -> bool:
        """Whether one of them is suspected to kill its workers."""
        return bool(self._suspects)

    def add(self, claims: Iterable[Claim]) -> None:
        """Note claims."""
        with self._turn:
            for claim in claims:
                self._ids.add((claim.id, claim.attempt))
                if claim.kills >= _SUSPECT_KILLS:
                    self._suspects.add((claim.id, claim.attempt))

    def discard(self, claims: Iterable[Claim]) -> None:
        """Forget claims that are settled, given back or lost."""
        with self._turn:
            gone = [(claim.id, claim.attempt) for claim in claims]
            self._ids.difference_update(gone)
            if self._suspects:
                self._suspects.difference_update(gone)

    def ids(self) -> tuple[list[int], list[int]]:
        """Return the ids, and the attempt of each."""
        with self._turn:
            return [job for job, _ in self._ids], [attempt for _, attempt in self._ids]


class Store:
    """One connection to the jobs' tables. Calls of several threads take turns.

    Every call raises psycopg.OperationalError when the server does not answer; the next one
    connects anew.
    """

    def __init__(
        self, url: str, *, name: str, held: "Held | None" = None, prepare: bool = False
    ) -> None:
        self._url = url
        self._held = held or Held()
        self._name = name
        self._prepare = prepare
        self._turn = threading.Lock()
        self._conn: Connection[TupleRow] | None = None
        self._doubtful = False
        self._lost: set[int] = set()
        self._sleeping = False

    @property
    def held(self) -> Held:
        """The claims of this process."""
        return self._held

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._drop()

    def register(self, entry: Entry) -> int:
        """Enter this process among the workers and return its id.

        NotMigratedError if the tables are not there.
        """
        params = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "limits": Jsonb(dict(entry.limits)),
            "kinds": list(entry.kinds),
            "timeouts": Jsonb(dict(entry.timeouts)),
        }
        try:
            rows = self._run(sql.REGISTER, params)
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.InvalidSchemaName,
        ) as error:
            raise NotMigratedError("the jobs' tables are not in the database") from error
        return int(rows[0][0])

    def beat(self, worker: int, lost_slots: int = 0) -> bool:
        """Say that the process lives; False if others took it for dead."""
        return bool(self._run(sql.BEAT, {"worker": worker, "lost_slots": lost_slots}))

    def leave(self, worker: int) -> list[int]:
        """Take this process off the list; return the jobs that it still ran, now given back."""
        with self._turn:
            ids, attempts = self._held.ids()
            params = {"ids": ids, "attempts": attempts, "workers": [worker] * len(ids)}
            rows = self._execute(sql.GIVE_BACK, params) if ids else []
            if self._doubtful:
                nothing: list[int] = []
                unknown = {"worker": worker, "ids": nothing, "attempts": nothing}
                rows += self._execute(sql.GIVE_BACK_UNKNOWN, unknown)
            self._execute(sql.LEAVE, {"worker": worker})
        return [row[0] for row in rows]

    def rescue(self, worker: int = 0) -> list[tuple[int, str]]:
        """Free the jobs of dead processes; return (id, "rescued" or "discarded") of each.

        `worker` is this process, which is not dead.
        """
        with self._turn:
            conn = self._connection()
            try:
                with conn.transaction():
                    given = {"lease": LEASE, "worker": worker}
                    found = conn.execute(sql.LOST_WORKERS, given).fetchall()
                    lost = self._lost | {row[0] for row in found}
                    if not lost:
                        return []
                    params = {"lost": list(lost), "most_kills": MOST_KILLS}
                    rows = conn.execute(sql.RESCUE, params).fetchall()
                    if gone := [row[0] for row in rows if row[1] == "discarded"]:
                        told = {"ids": gone, "states": ["discarded"] * len(gone)}
                        conn.execute(sql.FOLLOW, told)
            except psycopg.OperationalError:
                self._drop()
                raise
            # A row that somebody had locked was left out: it is freed at the next look.
            self._lost = lost & {row[0] for row in self._execute(sql.ORPHANS, {})}
        return [(row[0], row[1]) for row in rows]

    def find_orphans(self) -> None:
        """Note workers that have jobs and no entry: the next rescue frees what they hold."""
        rows = self._run(sql.ORPHANS, {})
        self._lost |= {row[0] for row in rows}

    def claim(self, look: Look, wanted: Mapping[str, int]) -> list[Claim]:
        """Take up to so many due jobs of each queue, first priority first."""
        params = {
            **_look_params(look),
            "queues": _texts(tuple(wanted)),
            "limits": _array(wanted.values()),
        }
        return self._claim(look.worker, sql.CLAIM, params)

    def claim_limited(self, look: Look, queue: str, most: int, limit: Limit) -> list[Claim]:
        """Take up to so many due jobs of a queue, within its limits over all processes."""
        rate, tenant_rate = limit.rate, limit.tenant_rate
        params = {
            **_look_params(look),
            "queue": queue,
            "most": most,
            "limit": limit.jobs,
            "rate": rate and rate.jobs,
            "period": rate and rate.period,
            "tenant_limit": limit.tenant_jobs,
            "tenant_rate": tenant_rate and tenant_rate.jobs,
            "tenant_period": tenant_rate and tenant_rate.period,
            "by_tenant": limit.by_tenant,
        }
        return self._claim(look.worker, sql.CLAIM_LIMITED, params)

    def _claim(self, worker: int, statement: LiteralString, params: dict[str, Any]) -> list[Claim]:
        with self._turn:
            params["suspects"] = not self._held.has_suspect
            if self._doubtful:
                # A claim may have been made whose answer never came.
                ids, attempts = self._held.ids()
                unknown = {"worker": worker, "ids": ids, "attempts": attempts}
                self._execute(sql.GIVE_BACK_UNKNOWN, unknown)
                self._doubtful = False
            self._doubtful = True
            rows = self._execute(statement, params)
            # An update returns its rows in no particular order: priority, run_at, id.
            rows.sort(key=lambda row: (row[12], row[13], row[0]))
            claims = [Claim._make((*row, worker)) for row in rows]
            # Only who has failed can have let its sequence pass; its row says it for sure.
            passed = [one for one in claims if one.failures and PASSES in one.metadata]
            late = {one.id for one in passed if not self._is_its_turn(one)}
            if late:
                claims = [one for one in claims if one.id not in late]
            # Not before: what is not held is given back if one of these statements fails.
            self._held.add(claims)
            self._doubtful = False
        return claims

    def _is_its_turn(self, claim: Claim) -> bool:
        """Let a job that let its sequence pass come in again; False if it is to wait."""
        given = {"job": claim.id, "attempt": claim.attempt, "worker": claim.worker_id}
        return bool(self._execute(sql.ENTER, given)[0][0])

    @property
    def is_asleep(self) -> bool:
        """Whether enqueuers are asked to notify."""
        return self._sleeping

    def sleep(self) -> None:
        """Let enqueuers know that a notification is worth its price, until `wake`."""
        if not self._sleeping:
            self._sleeping = bool(self._run(sql.SLEEPING, {})[0][0])

    def wake(self) -> None:
        """End `sleep`."""
        if self._sleeping:
            self._sleeping = False
            self._run(sql.AWAKE, {})

    def unknown_kinds(self, queues: Sequence[str], kinds: Sequence[str]) -> list[str]:
        """Return the kinds that wait and that this process has no worker for."""
        params = {"queues": list(queues), "kinds": list(kinds)}
        return sorted(row[0] for row in self._run(sql.UNKNOWN_KINDS, params))

    def cancels(self) -> list[int]:
        """Return the ids among the held ones whose end somebody asked for."""
        ids, _ = self._held.ids()
        return [row[0] for row in self._run(sql.CANCELS, {"ids": ids})] if ids else []

    def maintain(self, kept: Mapping[str, timedelta]) -> None:
        """Make the partitions of the days to come, and drop the days that are over."""
        self._run(sql.PARTITION, {})
        self._run(sql.FORGET_CANCELS, {})
        self._run(sql.PRUNE, {**kept, "dry_run": False})

    def release(self, *, thorough: bool = False) -> None:
        """Tell jobs that could not be told at once that what they wait for has ended."""
        self._run(sql.RELEASE, {"thorough": thorough})

    def index_tenants(self) -> bool:
        """Make the index for queues whose tenants take turns; False if the table is too large."""
        return bool(self._run(sql.INDEX_TENANTS, {})[0][0])

    def forget_keys(self) -> None:
        """Delete unique keys that nobody has any more."""
        while self.within(forget_keys):
            pass

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Let others run claims that were never started; no failure is counted.

        If that fails, the process does so when it leaves, or is rescued.
        """
        if not claims:
            return
        try:
            self._run(sql.GIVE_BACK, _fences(claims))
        except psycopg.Error as error:
            say("warning", "claims.not_given_back", error=str(error).strip())
        else:
            self._held.discard(claims)

    def settle(self, batch: Sequence[Settled]) -> set[int]:
        """Write outcomes in one transaction; return the ids whose claim still held."""
        # In one order for all: two batches that wait for each other's rows would never end.
        batch = sorted(batch, key=lambda one: one.claim.id)
        finished = [one for one in batch if isinstance(one.outcome, Finished)]
        again = [one for one in batch if isinstance(one.outcome, Again)]
        back = [one.claim for one in batch if not isinstance(one.outcome, Finished | Again)]
        statements: list[tuple[LiteralString, dict[str, Any]]] = []
        if finished:
            statements.append((sql.FINISH, finish_params(finished)))
        if again:
            statements.append((sql.AGAIN, again_params(again)))
        if back:
            statements.append((sql.GIVE_BACK, _fences(back)))
        with self._turn:
            if len(statements) == 1:
                return {row[0] for row in self._execute(*statements[0])}
            conn = self._connection()
            try:
                with conn.transaction():
                    rows = [
                        row
                        for statement, params in statements
                        for row in conn.execute(statement, params, prepare=self._prepare)
                    ]
            except psycopg.OperationalError:
                self._drop()
                raise
        return {row[0] for row in rows}

    def within(self, do: Callable[[Connection[TupleRow]], R]) -> R:
        """Do something in one transaction and return what it gives."""
        with self._turn:
            conn = self._connection()
            try:
                with conn.transaction():
                    return do(conn)
            except psycopg.OperationalError:
                self._drop()
                raise

    def _run(self, statement: LiteralString, params: Mapping[str, object]) -> list[TupleRow]:
        with self._turn:
            return self._execute(statement, params)

    def _execute(self, statement: LiteralString, params: Mapping[str, object]) -> list[TupleRow]:
        conn = self._connection()
        try:
            cursor = conn.execute(statement, params, prepare=self._prepare)
            return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            self._drop()
            raise

    def _connection(self) -> Connection[TupleRow]:
        if self._conn is None or self._conn.closed:
            self._sleeping = False
            self._conn = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=5,
                # A server that is gone without a word is missed before the lease ends.
                keepalives_idle=3,
                keepalives_interval=1,
                keepalives_count=3,
                tcp_user_timeout=6000,
                application_name=f"forgecore {self._name}",
                prepare_threshold=0 if self._prepare else None,
            )
        return self._conn

    def _drop(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def forget_keys(conn: Connection[TupleRow]) -> int:
    """Delete some of the unique keys that nobody has; return how many were looked at.

    To be called in a transaction, until there are none.
    """
    keys = [row[0] for row in conn.execute(sql.FREE_KEYS).fetchall()]
    conn.execute(sql.FORGET_KEYS, {"keys": keys})
    return len(keys)


def finish_params(batch: Sequence[Settled]) -> dict[str, Any]:
    """Return the parameters of FINISH; every outcome of `batch` is Finished."""
    outcomes = cast("list[Finished]", [one.outcome for one in batch])
    outputs = [outcome.output for outcome in outcomes]
    return {
        "states": _array([outcome.state for outcome in outcomes]),
        "outputs": outputs if any(outputs) else None,
        **_common(batch),
    }


def again_params(batch: Sequence[Settled]) -> dict[str, Any]:
    """Return the parameters of AGAIN; every outcome of `batch` is Again."""
    delays = [one.outcome.delay for one in batch if isinstance(one.outcome, Again)]
    return {"delays": delays, **_common(batch)}


def _common(batch: Sequence[Settled]) -> dict[str, Any]:
    failures = [one.outcome.failure for one in batch]
    if not any(failures):
        texts = {"errors": None, "messages": None, "tracebacks": None}
        return {**_fences([one.claim for one in batch]), **texts}
    return {
        **_fences([one.claim for one in batch]),
        "errors": [failure.error if failure else None for failure in failures],
        "messages": [failure.message if failure else None for failure in failures],
        "tracebacks": [failure.traceback if failure else None for failure in failures],
    }


def _fences(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "ids": _array(claim.id for claim in claims),
        "attempts": _array(claim.attempt for claim in claims),
        "workers": _array(claim.worker_id for claim in claims),
    }


def _look_params(look: Look) -> dict[str, Any]:
    return {
        "worker": look.worker,
        "kinds": _texts(tuple(look.kinds)),
        "max_attempts": look.max_attempts,
        "floor_queues": _texts(tuple(level.queue for level in look.floors)),
        "floor_priorities": _array(level.priority for level in look.floors),
        "floor_times": _array(level.time.isoformat() for level in look.floors),
        "floor_ids": _array(level.id for level in look.floors),
        "levels": _array(look.priorities),
    }


@lru_cache(maxsize=256)
def _texts(values: tuple[str, ...]) -> str:
    quoted = (value.replace("\\", r"\\").replace('"', r"\"") for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _array(values: Iterable[int | str]) -> str:
    # As text, which costs a tenth of psycopg's lists: these values need no quotes.
    return f"{{{','.join(map(str, values))}}}"
