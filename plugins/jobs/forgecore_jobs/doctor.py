"""Doctor: what is wrong with the jobs' tables, workers and clocks, each with what mends it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from attrs import frozen
from psycopg import Connection

from forgecore_jobs import operate
from forgecore_jobs.output import fault_of_args
from forgecore_jobs.periodic import Periodic
from forgecore_jobs.settings import JobsSettings
from forgecore_jobs.sql import TENANTS_INDEX
from forgecore_jobs.worker import Worker

SHADOW: Final = "forge_doctor"
_SKEW_S: Final = 2.0
_SNAPSHOT_S: Final = 300.0
_SNAPSHOT_XIDS: Final = 100_000
_BEAT_S: Final = 10.0

_COLUMNS: Final = """
SELECT class.relname || '.' || attribute.attname,
    format_type(attribute.atttypid, attribute.atttypmod)
    || CASE WHEN attribute.attnotnull THEN ' NOT NULL' ELSE '' END
FROM pg_attribute AS attribute
JOIN pg_class AS class ON class.oid = attribute.attrelid
WHERE class.relnamespace = %(schema)s::regnamespace AND class.relkind IN ('r', 'p', 'v')
    AND class.relname !~ '_[0-9]{8}$' AND attribute.attnum > 0 AND NOT attribute.attisdropped"""
_INDEXES: Final = """
SELECT 'index ' || indexname, indexdef FROM pg_indexes
WHERE schemaname = %(schema)s AND tablename !~ '_[0-9]{8}$'"""
_FUNCTIONS: Final = """
SELECT 'function ' || proname, prosrc || coalesce(array_to_string(proconfig, ','), '')
FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace"""
_TRIGGERS: Final = """
SELECT 'trigger ' || tgname, pg_get_triggerdef(pg_trigger.oid) || tgenabled::text
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal"""
_OPTIONS: Final = """
SELECT 'options of ' || relname, array_to_string(reloptions, ', ')
FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relname = 'jobs'"""


@frozen(kw_only=True)
class Finding:
    """Something that is wrong, or `ok`."""

    check: str
    ok: bool
    text: str
    remedy: str = ""


def findings(
    conn: Connection[Any],
    migrations: Sequence[str],
    workers: Mapping[str, Worker[Any]],
    settings: JobsSettings,
) -> Iterator[Finding]:
    """Look at everything; `migrations` are the texts that made the tables, in order."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("tables", lambda: _tables(conn, migrations)),
        ("partitions", lambda: _partitions(conn)),
        ("workers", lambda: _workers(conn)),
        ("kinds", lambda: _kinds(conn, list(workers), settings.limits)),
        ("periodic", lambda: _periodic(settings.periodic, workers)),
        ("limits", lambda: _limits(conn, settings)),
        ("versions", lambda: _versions(conn, workers)),
        ("clock", lambda: _clock(conn)),
        ("snapshots", lambda: _snapshot(conn)),
        ("pauses", lambda: _pauses(conn)),
    )
    for name, check in checks:
        try:
            yield from check()
        except psycopg.ProgrammingError as error:
            # What is missing was named by the first check.
            text = f"cannot be looked at: {error.diag.message_primary or error}"
            yield Finding(check=name, ok=False, text=text)


def _tables(conn: Connection[Any], migrations: Sequence[str]) -> Iterator[Finding]:
    name = "tables"
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(f"CREATE SCHEMA {SHADOW}")
            for text in migrations:
                conn.execute(re.sub(r"\bforge\.", f"{SHADOW}.", text).encode())
            wanted = _catalogue(conn, SHADOW)
    except psycopg.errors.InsufficientPrivilege as error:
        text = f"this role may not compare them: {str(error).strip()}"
        yield Finding(check=name, ok=True, text=text)
        return
    found = _catalogue(conn, "forge")
    wrong = [
        f"{what} is {'missing' if what not in found else 'not as it must be'}"
        for what in sorted(wanted)
        if found.get(what) != wanted[what]
    ]
    if not wrong:
        yield Finding(check=name, ok=True, text=f"{len(wanted)} columns, indexes and functions")
    for text in wrong:
        yield Finding(check=name, ok=False, text=text, remedy="forgecore migrate up")


def _catalogue(conn: Connection[Any], schema: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in (_COLUMNS, _INDEXES, _FUNCTIONS, _TRIGGERS, _OPTIONS):
        for what, definition in conn.execute(text, {"schema": schema}).fetchall():
            found[what] = re.sub(rf"\b{schema}\.", "forge.", str(definition))
    return found


def _partitions(conn: Connection[Any]) -> Iterator[Finding]:
    name = "partitions"
    rows = conn.execute("""
        SELECT state, day::date
        FROM unnest(ARRAY['completed', 'discarded', 'cancelled']) AS state,
            generate_series(0, 1) AS step,
            LATERAL (SELECT (now() AT TIME ZONE 'UTC')::date + step) AS days (day)
        WHERE to_regclass(format('forge.jobs_%s_%s', state, to_char(day, 'YYYYMMDD'))) IS NULL
        ORDER BY 2, 1""").fetchall()
    for state, day in rows:
        text = f"no partition for jobs {state} on {day}"
        yield Finding(check=name, ok=False, text=text, remedy="SELECT forge.jobs_partition()")
    if not rows:
        yield Finding(check=name, ok=True, text="made for today and tomorrow")


def _workers(conn: Connection[Any]) -> Iterator[Finding]:
    name = "workers"
    found = operate.workers(conn)
    waiting = sum(operate.waiting_kinds(conn).values())
    if not found and waiting:
        text = f"{_jobs(waiting)} wait, and no worker runs"
        yield Finding(check=name, ok=False, text=text, remedy="forgecore jobs work")
        return
    for one in found:
        who = f"{one['host']} pid {one['pid']}"
        if one["beaten_s_ago"] > _BEAT_S:
            text = f"{who} has not beaten for {one['beaten_s_ago']:.0f} s"
            yield Finding(check=name, ok=False, text=text, remedy="its jobs run elsewhere soon")
        if one["lost_slots"]:
            text = f"{who} has lost {one['lost_slots']} slots to runs that do not end"
            yield Finding(check=name, ok=False, text=text, remedy="its log says where they stand")
    beating = sum(one["beaten_s_ago"] <= _BEAT_S for one in found)
    yield Finding(check=name, ok=True, text=f"{beating} running")


def _kinds(
    conn: Connection[Any], kinds: Sequence[str], limits: Mapping[str, int]
) -> Iterator[Finding]:
    name = "kinds"
    served = {kind for one in operate.workers(conn) for kind in one["kinds"]}
    unknown = 0
    for kind, count in sorted(operate.waiting_kinds(conn).items()):
        if kind not in served and kind not in kinds:
            unknown += 1
            text = f"{_jobs(count)} of kind `{kind}` wait, and nobody has a worker for it"
            remedy = f"write a worker, or `forgecore jobs cancel --kind {kind}`"
            yield Finding(check=name, ok=False, text=text, remedy=remedy)
    for row in operate.queues(conn):
        if row["queue"] not in limits and row["available"]:
            unknown += 1
            text = f"{_jobs(row['available'])} wait in queue `{row['queue']}`, which nobody serves"
            yield Finding(check=name, ok=False, text=text, remedy="name it in [jobs.queues]")
    if not unknown:
        yield Finding(check=name, ok=True, text="every waiting kind and queue is known")


def _jobs(count: int) -> str:
    return f"{count} job{'s' if count != 1 else ''}"


def _periodic(entries: Sequence[Periodic], workers: Mapping[str, Worker[Any]]) -> Iterator[Finding]:
    name = "periodic"
    wrong = 0
    for entry in entries:
        worker = workers.get(entry.kind)
        fault = (
            f"the kind `{entry.kind}` has no worker"
            if worker is None
            else fault_of_args(worker, entry.args)
        )
        if fault:
            wrong += 1
            text = f"{entry.name}: {fault}"
            yield Finding(check=name, ok=False, text=text, remedy="mend [[jobs.periodic]]")
    if not wrong:
        yield Finding(check=name, ok=True, text="every entry has its worker")


def _limits(conn: Connection[Any], settings: JobsSettings) -> Iterator[Finding]:
    name = "limits"
    by_tenant = [queue for queue, limit in settings.limited.items() if limit.by_tenant]
    if by_tenant and not operate.has_tenants_index(conn):
        text = f"no index finds the tenants of {', '.join(by_tenant)}"
        yield Finding(check=name, ok=False, text=text, remedy=TENANTS_INDEX)
        return
    text = f"over all processes: {', '.join(settings.limited) or 'none'}"
    yield Finding(check=name, ok=True, text=text)


def _versions(conn: Connection[Any], workers: Mapping[str, Worker[Any]]) -> Iterator[Finding]:
    name = "versions"
    unread = 0
    for row in operate.waiting_versions(conn):
        worker, version = workers.get(row["kind"]), row["version"]
        if worker is None or (fault := _fault_of_version(worker, version)) is None:
            continue
        unread += 1
        jobs = f"{_jobs(row['jobs'])} of kind `{row['kind']}`"
        text = f"{jobs} with arguments of version {version}: {fault}"
        remedy = "run a worker that reads them, or write the upcaster"
        yield Finding(check=name, ok=False, text=text, remedy=remedy)
    if not unread:
        yield Finding(check=name, ok=True, text="every version of arguments can be read")


def _fault_of_version(worker: Worker[Any], version: str) -> str | None:
    if not version.isdecimal():
        return "no version"
    if int(version) > worker.version:
        return f"the worker here reads {worker.version} at most"
    missing = [step for step in range(int(version), worker.version) if step not in worker.upcasters]
    return f"no upcaster from version {missing[0]}" if missing else None


def _clock(conn: Connection[Any]) -> Iterator[Finding]:
    before = datetime.now(UTC)
    server = operate.server_time(conn)
    after = datetime.now(UTC)
    skew = max((before - server).total_seconds(), (server - after).total_seconds())
    if skew > _SKEW_S:
        text = f"this machine's clock and the server's differ by {skew:.1f} s"
        remedy = "times that are computed here are wrong by it; the engine goes by the server's"
        yield Finding(check="clock", ok=False, text=text, remedy=remedy)
    else:
        yield Finding(check="clock", ok=True, text="as the server's")


def _snapshot(conn: Connection[Any]) -> Iterator[Finding]:
    holder = operate.oldest_snapshot(conn)
    is_old = holder is not None and (
        (holder["age_s"] or 0) >= _SNAPSHOT_S
        or (holder["age_s"] is None and holder["xids"] >= _SNAPSHOT_XIDS)
    )
    if holder is None or not is_old:
        yield Finding(check="snapshots", ok=True, text="nobody holds an old one")
        return
    age = "" if holder["age_s"] is None else f" for {holder['age_s']:.0f} s"
    text = f"{holder['what']} {holder['name']} has held a snapshot{age}, {holder['xids']} ids old"
    remedy = f"end it if nobody needs it: {holder['query'] or 'no query'}"
    yield Finding(check="snapshots", ok=False, text=text, remedy=remedy)


def _pauses(conn: Connection[Any]) -> Iterator[Finding]:
    paused = [f"queue {row['queue']}" for row in operate.queues(conn) if row["paused"]]
    paused += [f"kind {kind}" for kind in operate.paused_kinds(conn)]
    text = f"paused: {', '.join(paused)}" if paused else "nothing is paused"
    yield Finding(check="pauses", ok=True, text=text)
