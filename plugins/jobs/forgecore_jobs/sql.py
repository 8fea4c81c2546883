"""Every statement of the engine, and the head of the insert that hooks and enqueue() share."""

from collections.abc import Iterable
from typing import Final, LiteralString

TABLE: Final = "forge.jobs"


def insert_head(columns: Iterable[LiteralString]) -> LiteralString:
    """Return `INSERT INTO` the outbox, for these of its columns."""
    names: LiteralString = ", ".join(list(columns))
    return f"INSERT INTO forge.jobs (\n        {names}\n    )"


REGISTER: Final = """
INSERT INTO forge.job_workers (host, pid)
VALUES (%(host)s, %(pid)s)
RETURNING id"""

BEAT: Final = """
UPDATE forge.job_workers
SET beat_at = clock_timestamp()
WHERE id = %(worker)s
RETURNING id"""

# What still runs when a process has to go is given back; no failure is counted.
LEAVE: Final = """
WITH gone AS (
    DELETE FROM forge.job_workers WHERE id = %(worker)s
)
UPDATE forge.jobs
SET worker_id = NULL, started_at = NULL
WHERE worker_id = %(worker)s
RETURNING id, kind, attempt"""

# Locking the process's own entry keeps out a claim of one that was taken for dead meanwhile.
CLAIM: Final = """
WITH alive AS (
    SELECT id FROM forge.job_workers WHERE id = %(worker)s FOR KEY SHARE
), claimed AS (
    SELECT id
    FROM forge.jobs
    WHERE EXISTS (SELECT FROM alive)
        AND worker_id IS NULL
        AND queue = %(queue)s
        AND run_at <= now()
        AND kind = ANY(%(kinds)s)  -- another process may know the others
    ORDER BY priority, run_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE forge.jobs AS job
SET
    attempt = job.attempt + 1,
    worker_id = %(worker)s,
    started_at = now(),
    max_attempts = coalesce(job.max_attempts, %(max_attempts)s)
FROM claimed
WHERE job.id = claimed.id
RETURNING
    job.id, job.kind, job.queue, job.args, job.tenant_id, job.metadata, job.attempt,
    job.failures, job.max_attempts, job.backoff, job.priority, job.run_at"""

# Both fences compare with an expression: `worker_id = ..` would match the partial index of
# running jobs, whose dead entries are then walked at every acknowledgement.
FINISH: Final = """
WITH outcome AS (
    SELECT *
    FROM unnest(
        %(ids)s::bigint[], %(attempts)s::int[], %(workers)s::bigint[], %(states)s::text[],
        %(errors)s::text[], %(messages)s::text[], %(tracebacks)s::text[]
    ) AS outcome (id, attempt, worker_id, state, error, message, traceback)
), gone AS (
    DELETE FROM forge.jobs AS job
    USING outcome
    WHERE job.id = outcome.id
        AND job.attempt = outcome.attempt  -- who lost the lease finishes nothing
        AND coalesce(job.worker_id, 0) = outcome.worker_id
    RETURNING job.*, outcome.state, outcome.error, outcome.message, outcome.traceback
), errors AS (
    INSERT INTO forge.job_errors (job_id, attempt, error, message, traceback)
    SELECT id, attempt, error, message, traceback FROM gone WHERE error IS NOT NULL
)
INSERT INTO forge.jobs_finished (
    id, kind, queue, args, tenant_id, metadata, run_at, enqueued_at, priority, max_attempts,
    timeout, backoff, attempt, failures, kills, started_at, state
)
SELECT
    id, kind, queue, args, tenant_id, metadata, run_at, enqueued_at, priority, max_attempts,
    timeout, backoff, attempt, failures + (error IS NOT NULL)::int, kills, started_at, state
FROM gone
RETURNING id"""

AGAIN: Final = """
WITH outcome AS (
    SELECT *
    FROM unnest(
        %(ids)s::bigint[], %(attempts)s::int[], %(workers)s::bigint[], %(delays)s::interval[],
        %(errors)s::text[], %(messages)s::text[], %(tracebacks)s::text[]
    ) AS outcome (id, attempt, worker_id, delay, error, message, traceback)
), waiting AS (
    UPDATE forge.jobs AS job
    SET
        worker_id = NULL,
        started_at = NULL,
        run_at = now() + outcome.delay,
        failures = job.failures + (outcome.error IS NOT NULL)::int
    FROM outcome
    WHERE job.id = outcome.id
        AND job.attempt = outcome.attempt
        AND coalesce(job.worker_id, 0) = outcome.worker_id
    RETURNING job.id, job.attempt, outcome.error, outcome.message, outcome.traceback
), errors AS (
    INSERT INTO forge.job_errors (job_id, attempt, error, message, traceback)
    SELECT id, attempt, error, message, traceback FROM waiting WHERE error IS NOT NULL
)
SELECT id FROM waiting"""

GIVE_BACK: Final = """
UPDATE forge.jobs AS job
SET worker_id = NULL, started_at = NULL
FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS given (id, attempt)
WHERE job.id = given.id
    AND job.attempt = given.attempt
    AND coalesce(job.worker_id, 0) = %(worker)s"""

# A claim whose reply was lost with the connection is known to the table alone.
GIVE_BACK_UNKNOWN: Final = """
UPDATE forge.jobs
SET worker_id = NULL, started_at = NULL
WHERE worker_id = %(worker)s
    AND (id, attempt) NOT IN (
        SELECT id, attempt FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS held (id, attempt)
    )
RETURNING id"""

# A worker that does not beat is dead, or must think so itself. Its row goes first: whoever
# deletes it rescues its jobs, and nobody else does.
RESCUE: Final = """
WITH lost AS (
    DELETE FROM forge.job_workers
    WHERE id IN (
        SELECT id FROM forge.job_workers
        WHERE beat_at < clock_timestamp() - %(lease)s::interval
            -- nobody could beat while the server was away
            AND pg_postmaster_start_time() < clock_timestamp() - %(lease)s::interval
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id
), job AS (
    SELECT jobs.*
    FROM forge.jobs
    WHERE worker_id IN (SELECT id FROM lost)
        OR (worker_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM forge.job_workers WHERE job_workers.id = jobs.worker_id
        ))
    FOR UPDATE SKIP LOCKED  -- who waits here does not beat
), rescued AS (
    UPDATE forge.jobs AS waiting
    SET worker_id = NULL, started_at = NULL, kills = waiting.kills + 1
    FROM job
    WHERE waiting.id = job.id AND job.kills + 1 < %(most_kills)s
    RETURNING waiting.id
), gone AS (
    DELETE FROM forge.jobs AS poison
    USING job
    WHERE poison.id = job.id AND job.kills + 1 >= %(most_kills)s
    RETURNING poison.*
), errors AS (
    INSERT INTO forge.job_errors (job_id, attempt, error, message, traceback)
    SELECT id, attempt, 'WorkerKilled', 'killed its worker ' || kills + 1 || ' times', ''
    FROM gone
), finished AS (
    INSERT INTO forge.jobs_finished (
        id, kind, queue, args, tenant_id, metadata, run_at, enqueued_at, priority, max_attempts,
        timeout, backoff, attempt, failures, kills, started_at, state
    )
    SELECT
        id, kind, queue, args, tenant_id, metadata, run_at, enqueued_at, priority, max_attempts,
        timeout, backoff, attempt, failures, kills + 1, started_at, 'discarded'
    FROM gone
)
SELECT id, 'rescued' FROM rescued UNION ALL SELECT id, 'discarded' FROM gone"""

UNKNOWN_KINDS: Final = """
SELECT DISTINCT kind
FROM forge.jobs
WHERE worker_id IS NULL AND run_at <= now() AND NOT kind = ANY(%(kinds)s)"""
