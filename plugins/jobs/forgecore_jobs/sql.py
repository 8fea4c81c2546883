"""Every statement of the engine, and the head of the insert that hooks and enqueue() share."""

from collections.abc import Iterable
from typing import Final, LiteralString

TABLE: Final = "forge.jobs"


def insert_head(columns: Iterable[LiteralString]) -> LiteralString:
    """Return `INSERT INTO` the outbox, for these of its columns."""
    names: LiteralString = ", ".join(list(columns))
    return f"INSERT INTO forge.jobs (\n        {names}\n    )"


REGISTER: Final = """
INSERT INTO forge.job_workers (host, pid, version, limits, kinds, timeouts)
VALUES (%(host)s, %(pid)s, %(version)s, %(limits)s, %(kinds)s, %(timeouts)s)
RETURNING id"""

BEAT: Final = """
UPDATE forge.job_workers
SET beat_at = clock_timestamp(), lost_slots = %(lost_slots)s
WHERE id = %(worker)s
RETURNING id"""

LEAVE: Final = """
DELETE FROM forge.job_workers WHERE id = %(worker)s"""

CLAIM: Final = """
SELECT *
FROM forge.jobs_claim(
    %(worker)s, %(kinds)s::text[], %(max_attempts)s, %(queues)s::text[], %(limits)s::int[],
    %(floor_queues)s::text[], %(floor_priorities)s::smallint[], %(floor_times)s::timestamptz[],
    %(floor_ids)s::bigint[], %(levels)s::smallint[], %(suspects)s
)"""

FINISH: Final = """
SELECT forge.jobs_finish(
    %(ids)s::bigint[], %(attempts)s::int[], %(workers)s::bigint[], %(states)s::text[],
    %(errors)s::text[], %(messages)s::text[], %(tracebacks)s::text[], %(outputs)s::text[]
)"""

AGAIN: Final = """
SELECT forge.jobs_again(
    %(ids)s::bigint[], %(attempts)s::int[], %(workers)s::bigint[], %(delays)s::interval[],
    %(errors)s::text[], %(messages)s::text[], %(tracebacks)s::text[]
)"""

GIVE_BACK: Final = """
UPDATE forge.jobs AS job
SET worker_id = NULL, started_at = NULL
FROM unnest(%(ids)s::bigint[], %(attempts)s::int[], %(workers)s::bigint[])
    AS given (id, attempt, worker_id)
WHERE job.id = given.id AND job.attempt = given.attempt AND job.worker_id = given.worker_id
RETURNING job.id"""

# A claim whose reply was lost with the connection is known to the table alone.
GIVE_BACK_UNKNOWN: Final = """
UPDATE forge.jobs
SET worker_id = NULL, started_at = NULL
WHERE worker_id = %(worker)s
    AND (id, attempt) NOT IN (
        SELECT id, attempt FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS held (id, attempt)
    )
RETURNING id"""

# A worker that does not beat is dead, or must think so itself. Whoever deletes its row rescues
# its jobs in the same transaction, and nobody else does.
LOST_WORKERS: Final = """
DELETE FROM forge.job_workers
WHERE id IN (
    SELECT id FROM forge.job_workers
    WHERE beat_at < clock_timestamp() - %(lease)s::interval
        -- nobody could beat while the server was away
        AND pg_postmaster_start_time() < clock_timestamp() - %(lease)s::interval
        AND id <> %(worker)s  -- who can ask this lives
    FOR UPDATE SKIP LOCKED
)
RETURNING id"""

ORPHANS: Final = """
SELECT DISTINCT worker_id
FROM forge.jobs
WHERE worker_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM forge.job_workers WHERE job_workers.id = jobs.worker_id)"""

# Who died so often is discarded by the next to claim it, whose callbacks hear of it; here only
# if they kill as well.
RESCUE: Final = """
WITH job AS (
    SELECT *
    FROM forge.jobs
    WHERE worker_id = ANY(%(lost)s)
    FOR UPDATE SKIP LOCKED  -- who waits here does not beat
), rescued AS (
    UPDATE forge.jobs AS waiting
    SET worker_id = NULL, started_at = NULL, kills = waiting.kills + 1
    FROM job
    WHERE waiting.id = job.id AND job.kills < %(most_kills)s
    RETURNING waiting.id
), gone AS (
    DELETE FROM forge.jobs AS poison
    USING job
    WHERE poison.id = job.id AND job.kills >= %(most_kills)s
    RETURNING poison.*
), errors AS (
    INSERT INTO forge.job_errors (job_id, attempt, error, message, traceback)
    SELECT id, attempt, 'WorkerKilled', 'killed its worker ' || kills + 1 || ' times', ''
    FROM gone
    ON CONFLICT (job_id, attempt) DO UPDATE SET error = excluded.error, message = excluded.message
), finished AS (
    INSERT INTO forge.jobs_finished (
        id, run_at, enqueued_at, started_at, tenant_id, timeout, attempt, failures, kills,
        max_attempts, priority, state, kind, queue, args, metadata, backoff
    )
    SELECT
        id, run_at, enqueued_at, started_at, tenant_id, timeout, attempt, failures, kills + 1,
        max_attempts, priority, 'discarded', kind, queue, args, metadata, backoff
    FROM gone
)
SELECT id, 'rescued' FROM rescued UNION ALL SELECT id, 'discarded' FROM gone"""

# Jobs of unknown kinds gather at the head of their queue; the whole of it is not looked through.
UNKNOWN_KINDS: Final = """
SELECT DISTINCT head.kind
FROM unnest(%(queues)s::text[]) AS served (queue)
CROSS JOIN LATERAL (
    SELECT kind
    FROM forge.jobs
    WHERE queue = served.queue AND waits <= 0 AND worker_id IS NULL AND run_at <= now()
    ORDER BY priority, run_at, id
    LIMIT 5000
) AS head
WHERE NOT head.kind = ANY(%(kinds)s)"""

CANCELS: Final = """
SELECT job_id FROM forge.job_cancels WHERE job_id = ANY(%(ids)s)"""

FORGET_CANCELS: Final = """
DELETE FROM forge.job_cancels
WHERE NOT EXISTS (SELECT FROM forge.jobs WHERE jobs.id = job_cancels.job_id)"""

# Who is locked is looked at again: meanwhile somebody may have taken the key for a new job, which
# the first statement does not see.
FREE_KEYS: Final = """
SELECT key
FROM forge.job_keys AS entry
WHERE (expires_at IS NULL OR expires_at < clock_timestamp())
    AND NOT EXISTS (SELECT FROM forge.jobs WHERE jobs.id = entry.job_id)
    -- it was cancelled in its sequence: those behind it wait for whoever is before it
    AND NOT EXISTS (SELECT FROM forge.job_waits WHERE job_waits.job_id = entry.job_id)
LIMIT 20000
FOR UPDATE SKIP LOCKED"""

FORGET_KEYS: Final = """
DELETE FROM forge.job_keys AS entry
WHERE key = ANY(%(keys)s)
    AND (expires_at IS NULL OR expires_at < clock_timestamp())
    AND NOT EXISTS (SELECT FROM forge.jobs WHERE jobs.id = entry.job_id)
    AND NOT EXISTS (SELECT FROM forge.job_waits WHERE job_waits.job_id = entry.job_id)"""

FOLLOW: Final = """
SELECT forge.jobs_follow(%(ids)s::bigint[], %(states)s::text[])"""

RELEASE: Final = """
SELECT forge.jobs_release(%(thorough)s)
WHERE EXISTS (SELECT FROM forge.job_waits)"""

ENTER: Final = """
SELECT forge.jobs_enter(%(job)s, %(attempt)s, %(worker)s)"""

TENANTS_INDEX: Final = (
    "CREATE INDEX CONCURRENTLY jobs_tenants_idx ON forge.jobs (queue, "
    "coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), priority, run_at, id) "
    "WHERE waits <= 0"
)
"""What an operator runs where the table is too large for a worker to do it."""

INDEX_TENANTS: Final = """
SELECT forge.jobs_index_tenants()"""

CLAIM_LIMITED: Final = """
SELECT *
FROM forge.jobs_claim_limited(
    %(worker)s, %(kinds)s::text[], %(max_attempts)s, %(queue)s, %(most)s,
    %(floor_queues)s::text[], %(floor_priorities)s::smallint[], %(floor_times)s::timestamptz[],
    %(floor_ids)s::bigint[], %(levels)s::smallint[], %(suspects)s, %(limit)s, %(rate)s,
    %(period)s, %(tenant_limit)s, %(tenant_rate)s, %(tenant_period)s, %(by_tenant)s
)"""

ENTER_PERIODIC: Final = """
INSERT INTO forge.job_periodic AS entry (name, kind, clock, definition, next_at)
VALUES (%(name)s, %(kind)s, %(clock)s, %(definition)s, %(next_at)s)
ON CONFLICT (name) DO UPDATE SET
    kind = excluded.kind,
    clock = excluded.clock,
    definition = excluded.definition,
    seen_at = clock_timestamp(),
    -- the same ticks go on where they were
    next_at = CASE WHEN entry.clock = excluded.clock THEN entry.next_at ELSE excluded.next_at END"""

SEE_PERIODIC: Final = """
UPDATE forge.job_periodic
SET seen_at = clock_timestamp()
WHERE name IN (
    SELECT name
    FROM forge.job_periodic
    WHERE definition = ANY(%(definitions)s) AND seen_at < clock_timestamp() - interval '50 seconds'
    FOR UPDATE SKIP LOCKED
)"""

# Whoever had changed an entry is gone, as after a deployment that was taken back.
LEFT_PERIODIC: Final = """
SELECT name
FROM forge.job_periodic
WHERE name = ANY(%(names)s)
    AND definition <> ALL(%(definitions)s)
    AND seen_at < clock_timestamp() - interval '3 minutes'"""

# Another deployment may have an entry of the same name: only its own are a process's.
DUE_PERIODIC: Final = """
SELECT name, next_at, last_job, clock_timestamp()
FROM forge.job_periodic
WHERE definition = ANY(%(definitions)s)
    AND next_at <= clock_timestamp()
    AND paused_at IS NULL
FOR UPDATE SKIP LOCKED"""

ADVANCE_PERIODIC: Final = """
UPDATE forge.job_periodic
SET next_at = %(next_at)s, last_at = %(last_at)s, last_job = coalesce(%(last_job)s, last_job)
WHERE name = %(name)s"""

IS_LIVE: Final = """
SELECT EXISTS (SELECT FROM forge.jobs WHERE id = %(job)s)"""

LAST_PERIODIC: Final = """
SELECT greatest(clock_timestamp(), max(last_at))
FROM forge.job_periodic
WHERE name = %(name)s"""

PARTITION: Final = """
SELECT forge.jobs_partition()"""

PRUNE: Final = """
SELECT part, rows
FROM forge.jobs_prune(
    %(completed)s::interval, %(discarded)s::interval, %(cancelled)s::interval, %(dry_run)s
)"""

SLEEPING: Final = """
SELECT pg_try_advisory_lock_shared(1718579831, 1)"""

AWAKE: Final = """
SELECT pg_advisory_unlock_shared(1718579831, 1)"""
