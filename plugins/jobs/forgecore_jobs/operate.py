"""What an operator sees and does, as functions on a connection: the commands' one query module."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

from attrs import frozen
from psycopg import Connection
from psycopg.rows import dict_row

from forgecore_jobs import sql
from forgecore_jobs.engine.store import forget_keys
from forgecore_jobs.insert import Node, insert_of
from forgecore_jobs.job import VERSION

Row = dict[str, Any]
LIVE: Final = ("available", "scheduled", "waiting", "running", "retryable")
FINISHED: Final = ("completed", "discarded", "cancelled")
STATES: Final = (*LIVE, *FINISHED)

# Null says nothing. `state` is of jobs_live, jobs_finished and jobs_all alike.
_MEANT: Final = """
    state = ANY(%(states)s)
    AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)
    AND (%(age)s::interval IS NULL OR enqueued_at < now() - %(age)s)"""
_KEPT: Final = """
    id, enqueued_at, tenant_id, timeout, attempt, max_attempts, priority, kind, queue,
    args, metadata, backoff"""

_KEPT_OF_BACK: Final = """
    back.id, back.enqueued_at, back.tenant_id, back.timeout, back.attempt, back.max_attempts,
    back.priority, back.kind, back.queue, back.args, back.metadata, back.backoff"""

_LIST: Final = f"""
SELECT id, state, kind, queue, tenant_id, attempt, failures, run_at, finished_at
FROM forge.jobs_all
WHERE {_MEANT}
    AND (finished_at IS NULL OR finished_at > now() - %(since)s::interval)
ORDER BY id DESC
LIMIT %(limit)s"""
_MEANT_FINISHED: Final = f"SELECT id FROM forge.jobs_finished WHERE {_MEANT}"
_MEANT_LIVE: Final = f"SELECT id FROM forge.jobs_live WHERE {_MEANT}"
_BRING_BACK: Final = f"""
WITH back AS (
    DELETE FROM forge.jobs_finished WHERE {_MEANT} RETURNING *
), heard AS (
    DELETE FROM forge.job_cancels USING back WHERE job_cancels.job_id = back.id
)
INSERT INTO forge.jobs (waits, {_KEPT})
SELECT place.waits, {_KEPT_OF_BACK}
FROM back, forge.jobs_place(
    job_id => back.id,
    sequence => back.metadata ->> 'sequence',
    after => ARRAY(
        -- those that are there, or come back as well
        SELECT one::bigint
        FROM unnest(string_to_array(back.metadata ->> 'after', ',')) AS one
        WHERE one ~ '^[0-9]{{1,18}}$' AND (
            EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = one::bigint)
            OR EXISTS (SELECT FROM back AS other WHERE other.id = one::bigint)
        )
    )
) AS place
RETURNING id"""
_RUN_NOW: Final = f"""
UPDATE forge.jobs
SET run_at = now()
WHERE worker_id IS NULL AND id IN ({_MEANT_LIVE})
RETURNING id"""
_END: Final = f"""
WITH gone AS (
    DELETE FROM forge.jobs WHERE worker_id IS NULL AND id IN ({_MEANT_LIVE}) RETURNING *
)
INSERT INTO forge.jobs_finished ({_KEPT}, run_at, failures, kills, state)
SELECT {_KEPT}, run_at, failures, kills, 'cancelled' FROM gone
RETURNING id"""
_ASK: Final = f"""
INSERT INTO forge.job_cancels (job_id) {_MEANT_LIVE}
ON CONFLICT (job_id) DO UPDATE SET asked_at = clock_timestamp()
RETURNING job_id AS id"""


@frozen(kw_only=True)
class Filter:
    """Which jobs are meant; what is None or empty does not limit. `age` is since the enqueue."""

    ids: Sequence[int] = ()
    queue: str | None = None
    kind: str | None = None
    states: Sequence[str] = ()
    tenant: UUID | None = None
    age: timedelta | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every job is meant."""
        return not any((self.ids, self.queue, self.kind, self.states, self.tenant, self.age))

    def params(self, states: Sequence[str]) -> dict[str, Any]:
        """Return the parameters of a statement that is about those of `states` that are meant."""
        return {
            "states": [state for state in states if not self.states or state in self.states],
            "ids": list(self.ids) or None,
            "queue": self.queue,
            "kind": self.kind,
            "tenant": self.tenant,
            "age": self.age,
        }


def listed(conn: Connection[Any], which: Filter, since: timedelta, limit: int) -> list[Row]:
    """Return jobs, the newest first; of the finished ones those that ended within `since`."""
    return _rows(conn, _LIST, {**which.params(STATES), "since": since, "limit": limit})


def shown(conn: Connection[Any], job_id: int) -> Row | None:
    """Return everything about a job."""
    query: LiteralString = """
        SELECT job.*, coalesce(
            (
                SELECT jsonb_agg(wait.on_id ORDER BY wait.on_id)
                FROM forge.job_waits AS wait
                WHERE wait.job_id = job.id
            ),
            '[]'
        ) AS waits_for
        FROM forge.jobs_all AS job
        WHERE job.id = %(id)s"""
    rows = _rows(conn, query, {"id": job_id})
    return rows[0] if rows else None


def enqueued(conn: Connection[Any], node: Node) -> int:
    """Write a job and return its id, or that of the job that it is the same as."""
    (row,) = _rows(conn, *insert_of([node]))
    (job_id,) = row.values()
    return int(job_id)


def retried(conn: Connection[Any], which: Filter, *, dry_run: bool) -> list[int]:
    """Let jobs run now: finished ones come back, waiting ones wait no longer; return their ids.

    Completed ones only if their state is asked for. The attempt goes on from where it was;
    failures are counted anew.
    """
    asked = which.states or [state for state in FINISHED if state != "completed"]
    finished = which.params([state for state in FINISHED if state in asked])
    waiting = which.params(("scheduled", "retryable"))
    with conn.transaction():
        rows = _rows(conn, _MEANT_FINISHED if dry_run else _BRING_BACK, finished)
        rows += _rows(conn, _MEANT_LIVE if dry_run else _RUN_NOW, waiting)
    return sorted(row["id"] for row in rows)


def cancelled(
    conn: Connection[Any], which: Filter, *, dry_run: bool
) -> tuple[list[int], list[int]]:
    """End jobs; return the ids of those that waited, and of those that still run.

    Waiting ones are cancelled at once; the worker of a running one sees it within a second.
    """
    waiting = which.params(("available", "scheduled", "waiting", "retryable"))
    running = which.params(("running",))
    with conn.transaction():
        ended = _rows(conn, _MEANT_LIVE if dry_run else _END, waiting)
        asked = _rows(conn, _MEANT_LIVE if dry_run else _ASK, running)
        if not dry_run:
            # One that came back in between waits now.
            ended += _rows(conn, _END, waiting)
            ids = [row["id"] for row in ended]
            conn.execute(sql.FOLLOW, {"ids": ids, "states": ["cancelled"] * len(ids)})
    return sorted(row["id"] for row in ended), sorted(row["id"] for row in asked)


def pause(conn: Connection[Any], what: str, name: str) -> None:
    """Let no worker claim from a queue, or a kind."""
    conn.execute(
        "INSERT INTO forge.job_pauses (what, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (what, name),
    )


def resume(conn: Connection[Any], what: str, name: str) -> bool:
    """End a pause; False if there was none. Sleeping workers are woken."""
    ended = conn.execute(
        "DELETE FROM forge.job_pauses WHERE what = %s AND name = %s", (what, name)
    ).rowcount
    conn.execute("SELECT pg_notify('forge_jobs', '')")
    return bool(ended)


def pruned(conn: Connection[Any], kept: Mapping[str, timedelta], *, dry_run: bool) -> list[Row]:
    """Drop the days that are over, or say which they are: part and rows of each."""
    while not dry_run and _keys_forgotten(conn):
        pass
    return _rows(conn, sql.PRUNE, {**kept, "dry_run": dry_run})


def _keys_forgotten(conn: Connection[Any]) -> int:
    with conn.transaction():
        return forget_keys(conn)


def queues(conn: Connection[Any]) -> list[Row]:
    """Return each queue that has live jobs or is paused, with counts and the oldest wait."""
    return _rows(
        conn,
        """
        SELECT
            coalesce(job.queue, pause.name) AS queue,
            count(*) FILTER (WHERE state = 'available') AS available,
            count(*) FILTER (WHERE state = 'scheduled') AS scheduled,
            count(*) FILTER (WHERE state = 'waiting') AS waiting,
            count(*) FILTER (WHERE state = 'retryable') AS retryable,
            count(*) FILTER (WHERE state = 'running') AS running,
            extract(epoch FROM now() - min(run_at) FILTER (WHERE state = 'available'))::float
                AS oldest_wait_s,
            bool_or(pause.name IS NOT NULL) AS paused
        FROM forge.jobs_live AS job
        FULL JOIN (SELECT name FROM forge.job_pauses WHERE what = 'queue') AS pause
            ON pause.name = job.queue
        GROUP BY 1
        ORDER BY 1""",
        {},
    )


def workers(conn: Connection[Any]) -> list[Row]:
    """Return the worker processes, the newest first."""
    return _rows(
        conn,
        """
        SELECT id, host, pid, version, limits, kinds, timeouts, lost_slots, started_at,
            extract(epoch FROM clock_timestamp() - beat_at)::float AS beaten_s_ago
        FROM forge.job_workers
        ORDER BY id DESC""",
        {},
    )


def table(conn: Connection[Any]) -> Row:
    """Return size and dead rows of the table of live jobs, and how much is kept of the others."""
    (row,) = _rows(
        conn,
        """
        SELECT
            pg_total_relation_size('forge.jobs') AS bytes,
            stat.n_live_tup AS live,
            stat.n_dead_tup AS dead,
            stat.last_autovacuum AS vacuumed_at,
            (SELECT count(*) FROM pg_inherits AS part
                WHERE part.inhparent IN ('forge.jobs_completed'::regclass,
                    'forge.jobs_discarded'::regclass, 'forge.jobs_cancelled'::regclass))
                AS partitions,
            (SELECT coalesce(sum(pg_total_relation_size(tree.relid)), 0)::bigint
                FROM pg_partition_tree('forge.jobs_finished') AS tree WHERE tree.isleaf)
                AS finished_bytes
        FROM pg_stat_user_tables AS stat
        WHERE stat.relid = 'forge.jobs'::regclass""",
        {},
    )
    return row


def oldest_snapshot(conn: Connection[Any]) -> Row | None:
    """Return the session, slot or prepared transaction that keeps dead rows from being removed."""
    rows = _rows(
        conn,
        """
        SELECT *
        FROM (
            SELECT 'session' AS what, pid::text AS name, usename AS role, application_name, state,
                extract(epoch FROM clock_timestamp() - xact_start)::float AS age_s,
                left(query, 200) AS query, age(backend_xmin) AS xids
            FROM pg_stat_activity
            WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
                AND backend_type = 'client backend'
            UNION ALL
            SELECT 'replication slot', slot_name, NULL, NULL, CASE WHEN active THEN 'active' END,
                NULL, NULL, age(xmin)
            FROM pg_replication_slots
            WHERE xmin IS NOT NULL
            UNION ALL
            SELECT 'prepared transaction', gid, owner, NULL, NULL,
                extract(epoch FROM clock_timestamp() - prepared)::float, NULL, age(transaction)
            FROM pg_prepared_xacts
        ) AS holder
        ORDER BY xids DESC, age_s DESC NULLS LAST
        LIMIT 1""",
        {},
    )
    return rows[0] if rows else None


def paused_kinds(conn: Connection[Any]) -> list[str]:
    """Return the kinds that no worker claims."""
    rows = _rows(conn, "SELECT name FROM forge.job_pauses WHERE what = 'kind' ORDER BY 1", {})
    return [row["name"] for row in rows]


def waiting_kinds(conn: Connection[Any]) -> dict[str, int]:
    """Return how many due jobs of each kind wait."""
    text = "SELECT kind, count(*) AS n FROM forge.jobs_live WHERE state = 'available' GROUP BY 1"
    return {row["kind"]: row["n"] for row in _rows(conn, text, {})}


def has_tenants_index(conn: Connection[Any]) -> bool:
    """Return whether the index for queues whose tenants take turns is there."""
    query: LiteralString = """
        SELECT FROM pg_index
        WHERE indexrelid = to_regclass('forge.jobs_tenants_idx') AND indisvalid"""
    return bool(_rows(conn, query, {}))


def server_time(conn: Connection[Any]) -> datetime:
    """Return the server's clock."""
    now: datetime = _rows(conn, "SELECT clock_timestamp() AS now", {})[0]["now"]
    return now


def periodic(conn: Connection[Any]) -> list[Row]:
    """Return the periodic entries that some deployment has entered, and whether one still runs."""
    query: LiteralString = """
        SELECT *, seen_at > clock_timestamp() - interval '3 minutes' AS is_seen
        FROM forge.job_periodic
        ORDER BY name"""
    return _rows(conn, query, {})


def pause_periodic(conn: Connection[Any], name: str) -> bool:
    """Pause an entry; False if there is none."""
    query: LiteralString = """
        UPDATE forge.job_periodic SET paused_at = coalesce(paused_at, now())
        WHERE name = %(name)s RETURNING name"""
    return bool(_rows(conn, query, {"name": name}))


def resume_periodic(conn: Connection[Any], name: str, next_at: datetime) -> bool:
    """Let a paused entry go on with this tick; False if there is none that is paused."""
    query: LiteralString = """
        UPDATE forge.job_periodic SET paused_at = NULL, next_at = %(next_at)s
        WHERE name = %(name)s AND paused_at IS NOT NULL RETURNING name"""
    return bool(_rows(conn, query, {"name": name, "next_at": next_at}))


def waiting_versions(conn: Connection[Any]) -> list[Row]:
    """Return how many live jobs of each kind have arguments of which version."""
    query: LiteralString = """
        SELECT kind, coalesce(metadata ->> %(version)s, '1') AS version, count(*) AS jobs
        FROM forge.jobs
        GROUP BY 1, 2
        ORDER BY 1, 2"""
    return _rows(conn, query, {"version": VERSION})


def _rows(conn: Connection[Any], text: LiteralString, params: Mapping[str, Any]) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(text, params).fetchall()
