-- Which job waits for which other one, and for what: that it `completed`, that it `failed`, that
-- it `ended` in whatever way, or that its `turn` in a sequence is over. A row stands until the
-- other job ends, that of a turn even if its own job was cancelled: who comes behind that one
-- waits for the same. `ended` is set where the waiting one could not be told at once.
CREATE TABLE forge.job_waits (
    job_id bigint NOT NULL,
    on_id bigint NOT NULL,
    needs text NOT NULL CHECK (needs IN ('completed', 'failed', 'ended', 'turn')),
    ended text,
    PRIMARY KEY (job_id, on_id, needs)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX job_waits_on_idx ON forge.job_waits (on_id);
CREATE INDEX job_waits_ended_idx ON forge.job_waits (on_id) WHERE ended IS NOT NULL;

-- Whether a job still keeps those behind it in its sequence from their run.
CREATE FUNCTION forge.jobs_in_sequence(own bigint) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = own AND job.waits >= 0)
        OR EXISTS (SELECT FROM forge.job_waits AS wait WHERE wait.job_id = own AND wait.needs = 'turn')
$$;

-- Give a job that is about to be written its id and its place: behind the last of its sequence,
-- and behind the jobs that it comes after. The last of a sequence stands among the unique keys;
-- who wants it waits for whoever has it, so that a sequence has the order of the commits.
CREATE FUNCTION forge.jobs_place(
    job_id bigint DEFAULT NULL,
    sequence text DEFAULT NULL,
    after bigint[] DEFAULT '{}',
    needs text DEFAULT 'completed',
    parent bigint DEFAULT NULL
) RETURNS TABLE (id bigint, waits smallint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
    own bigint := coalesce(
        job_id, nextval(pg_get_serial_sequence('forge.jobs', 'id'))
    );
    name text := 'sequence ' || sequence;
    last bigint;
    missing bigint;
    count integer := 0;
BEGIN
    IF cardinality(after) > 10000 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'a job waits for 10000 others at most';
    END IF;
    SELECT asked.id INTO missing
    FROM unnest(after) AS asked (id)
    WHERE NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = asked.id)
        AND NOT EXISTS (SELECT FROM forge.jobs_finished AS job WHERE job.id = asked.id)
    LIMIT 1;
    IF FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('there is no job %s to come after', missing),
            SCHEMA = 'forge', TABLE = 'jobs', CONSTRAINT = 'after';
    END IF;
    INSERT INTO forge.job_waits (job_id, on_id, needs)
    SELECT DISTINCT own, asked.id, needs
    FROM unnest(after || parent) AS asked (id)
    WHERE asked.id IS NOT NULL;
    GET DIAGNOSTICS count = ROW_COUNT;
    WHILE sequence IS NOT NULL LOOP
        INSERT INTO forge.job_keys AS entry (key, job_id)
        VALUES (name, own)
        ON CONFLICT (key) DO NOTHING;
        EXIT WHEN FOUND;
        SELECT entry.job_id INTO last FROM forge.job_keys AS entry WHERE entry.key = name FOR UPDATE;
        CONTINUE WHEN NOT FOUND;  -- it was forgotten just now
        UPDATE forge.job_keys AS entry SET job_id = own WHERE entry.key = name;
        IF forge.jobs_in_sequence(last) THEN
            INSERT INTO forge.job_waits (job_id, on_id, needs) VALUES (own, last, 'turn');
            count := count + 1;
        END IF;
        EXIT;
    END LOOP;
    id := own;
    waits := count;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION forge.jobs_place IS
    'Give a job that is about to be written its id, and for how many others it waits.';

-- Tell the jobs that wait for these how they ended: they come nearer to their run, or are
-- cancelled, or, if they were for a failure that did not come, are dropped. Nothing here waits
-- for a lock: who is looked at by somebody's open transaction is told by jobs_release().
-- With the owner's rights: a commit that comes after the end of what it waits for does this too.
CREATE FUNCTION forge.jobs_follow(ids bigint[], states text[]) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    over_ids bigint[] := ids;
    over_states text[] := states;
    is_free boolean := false;
    now_free boolean;
BEGIN
    WHILE cardinality(over_ids) > 0 LOOP
        LOOP
            -- Who waited for its turn itself leaves its place to those behind it.
            UPDATE forge.job_waits AS behind
            SET on_id = before.on_id
            FROM forge.job_waits AS before
            WHERE behind.on_id = ANY (over_ids)
                AND behind.needs = 'turn'
                AND before.job_id = behind.on_id
                AND before.needs = 'turn'
                AND NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = behind.on_id);
            EXIT WHEN NOT FOUND;
        END LOOP;
        DELETE FROM forge.job_waits AS wait
        WHERE wait.job_id = ANY (over_ids)
            AND wait.needs <> 'turn'
            AND NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = wait.job_id);
        WITH over AS MATERIALIZED (
            SELECT over.id, over.state
            FROM unnest(over_ids, over_states) AS over (id, state)
            WHERE over.state = 'passed'
                OR NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = over.id)
        ), told AS MATERIALIZED (
            SELECT
                wait.job_id, wait.on_id, wait.needs, over.state,
                CASE
                    WHEN wait.needs IN ('turn', 'ended') THEN 'nearer'
                    WHEN wait.needs = 'completed' AND over.state = 'completed' THEN 'nearer'
                    WHEN wait.needs = 'failed' AND over.state = 'discarded' THEN 'nearer'
                    WHEN wait.needs = 'failed' THEN 'dropped'
                    ELSE 'cancelled'
                END AS what
            FROM over
            JOIN forge.job_waits AS wait ON wait.on_id = over.id
            WHERE over.state <> 'passed' OR wait.needs = 'turn'
        ), had AS MATERIALIZED (
            SELECT job.id
            FROM forge.jobs AS job
            WHERE job.id IN (SELECT told.job_id FROM told)
            ORDER BY job.id
            FOR UPDATE SKIP LOCKED
        ), later AS (
            UPDATE forge.job_waits AS wait
            SET ended = told.state
            FROM told
            WHERE (wait.job_id, wait.on_id, wait.needs) = (told.job_id, told.on_id, told.needs)
                AND NOT EXISTS (SELECT FROM had WHERE had.id = told.job_id)
                AND EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = told.job_id)
        ), fate AS MATERIALIZED (
            SELECT
                told.job_id AS id,
                count(*) AS less,
                bool_or(told.what = 'cancelled') AS is_cancelled,
                bool_or(told.what = 'dropped') AS is_dropped,
                min(format('job %s was %s', told.on_id, told.state))
                    FILTER (WHERE told.what = 'cancelled') AS message
            FROM told
            JOIN had ON had.id = told.job_id
            GROUP BY told.job_id
        ), unlinked AS (
            DELETE FROM forge.job_waits AS wait
            USING told
            WHERE (wait.job_id, wait.on_id, wait.needs) = (told.job_id, told.on_id, told.needs)
                AND (
                    EXISTS (SELECT FROM had WHERE had.id = told.job_id)
                    OR NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = told.job_id)
                )
        ), nearer AS (
            UPDATE forge.jobs AS job
            SET waits = greatest(job.waits - fate.less, 0)
            FROM fate
            WHERE job.id = fate.id AND NOT fate.is_cancelled AND NOT fate.is_dropped
            RETURNING job.waits
        ), gone AS (
            DELETE FROM forge.jobs AS job
            USING fate
            WHERE job.id = fate.id AND (fate.is_cancelled OR fate.is_dropped)
            RETURNING job.*, fate.is_cancelled, fate.message
        ), kept AS (
            INSERT INTO forge.jobs_finished (
                id, run_at, enqueued_at, started_at, tenant_id, timeout, attempt, failures, kills,
                max_attempts, priority, state, kind, queue, args, metadata, backoff
            )
            SELECT
                id, run_at, enqueued_at, started_at, tenant_id, timeout, attempt, failures, kills,
                max_attempts, priority, 'cancelled', kind, queue, args, metadata, backoff
            FROM gone
            WHERE is_cancelled
        ), noted AS (
            INSERT INTO forge.job_errors (job_id, attempt, error, message, traceback)
            SELECT id, attempt, 'PredecessorFailed', message, '' FROM gone WHERE is_cancelled
            ON CONFLICT (job_id, attempt) DO UPDATE
            SET error = excluded.error, message = excluded.message
        )
        SELECT
            (SELECT bool_or(nearer.waits <= 0) FROM nearer),
            (SELECT array_agg(gone.id) FROM gone),
            (
                SELECT array_agg(CASE WHEN gone.is_cancelled THEN 'cancelled' ELSE 'dropped' END)
                FROM gone
            )
        INTO now_free, over_ids, over_states;
        is_free := is_free OR coalesce(now_free, false);
    END LOOP;
    -- As for new jobs: only if somebody sleeps is a notification worth a commit's time.
    IF is_free AND NOT pg_try_advisory_lock(1718579831, 1) THEN
        PERFORM pg_notify('forge_jobs', '');
    ELSIF is_free THEN
        PERFORM pg_advisory_unlock(1718579831, 1);
    END IF;
END
$$;

-- Who began to wait while the other one ended would wait for ever: looked at once more where
-- the transaction commits, and held against the other's end until it has.
CREATE FUNCTION forge.jobs_wait_check() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    other smallint;
BEGIN
    SELECT job.waits INTO other FROM forge.jobs AS job WHERE job.id = NEW.on_id FOR KEY SHARE;
    IF NOT FOUND THEN
        PERFORM forge.jobs_follow(
            ARRAY[NEW.on_id],
            ARRAY[coalesce(
                (SELECT job.state FROM forge.jobs_finished AS job WHERE job.id = NEW.on_id LIMIT 1),
                'dropped'
            )]
        );
    ELSIF NEW.needs = 'turn' AND other = -1 THEN
        PERFORM forge.jobs_follow(ARRAY[NEW.on_id], ARRAY['passed']);
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER job_waits_check AFTER INSERT OR UPDATE OF on_id ON forge.job_waits
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION forge.jobs_wait_check();

-- Tell the jobs that could not be told when what they wait for ended; with `is_thorough` those
-- as well whose other job went in a way that nobody saw. Return how many were looked at.
CREATE FUNCTION forge.jobs_release(is_thorough boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    ids bigint[];
    states text[];
BEGIN
    IF is_thorough THEN
        DELETE FROM forge.job_waits AS wait
        WHERE wait.needs <> 'turn'
            AND NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = wait.job_id);
        SELECT array_agg(lost.on_id), array_agg(lost.state)
        INTO ids, states
        FROM (
            SELECT
                wait.on_id,
                coalesce(
                    (
                        SELECT job.state FROM forge.jobs_finished AS job
                        WHERE job.id = wait.on_id
                        LIMIT 1
                    ),
                    'dropped'
                ) AS state
            FROM forge.job_waits AS wait
            WHERE wait.ended IS NULL
                AND NOT EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = wait.on_id)
            GROUP BY wait.on_id
            LIMIT 10000
        ) AS lost;
    ELSE
        SELECT array_agg(late.on_id), array_agg(late.ended)
        INTO ids, states
        FROM (
            SELECT DISTINCT wait.on_id, wait.ended
            FROM forge.job_waits AS wait
            WHERE wait.ended IS NOT NULL
            LIMIT 10000
        ) AS late;
    END IF;
    PERFORM forge.jobs_follow(ids, states);
    RETURN coalesce(cardinality(ids), 0);
END
$$;

-- A job that failed and let its sequence pass comes in again at the end of it, if somebody is
-- there: false, and it waits. Null if the sequence is somebody's open transaction's just now.
CREATE FUNCTION forge.jobs_enter(own bigint, attempts integer, worker bigint) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET lock_timeout = '100ms'
AS $$
DECLARE
    name text;
    last bigint;
BEGIN
    SELECT 'sequence ' || (job.metadata ->> 'sequence') INTO name
    FROM forge.jobs AS job
    WHERE job.id = own AND job.waits = -1;
    IF name IS NULL THEN
        RETURN true;
    END IF;
    INSERT INTO forge.job_keys AS entry (key, job_id) VALUES (name, own) ON CONFLICT DO NOTHING;
    SELECT entry.job_id INTO last FROM forge.job_keys AS entry WHERE entry.key = name FOR UPDATE;
    UPDATE forge.job_keys AS entry SET job_id = own WHERE entry.key = name AND entry.job_id <> own;
    IF last <> own AND forge.jobs_in_sequence(last) THEN
        UPDATE forge.jobs AS job
        SET waits = 1, worker_id = NULL, started_at = NULL
        WHERE job.id = own AND job.attempt = attempts AND job.worker_id = worker;
        INSERT INTO forge.job_waits (job_id, on_id, needs) VALUES (own, last, 'turn');
        RETURN false;
    END IF;
    UPDATE forge.jobs AS job
    SET waits = 0
    WHERE job.id = own AND job.attempt = attempts AND job.worker_id = worker;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END
$$;

-- For whoever enqueues without Python: the job commits with the caller's transaction.
CREATE FUNCTION forge.enqueue(
    kind text,
    args jsonb,
    queue text DEFAULT 'default',
    run_at timestamptz DEFAULT now(),
    priority integer DEFAULT 5,
    max_attempts integer DEFAULT NULL,
    tenant_id uuid DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    sequence text DEFAULT NULL,
    after bigint[] DEFAULT '{}'
) RETURNS bigint
LANGUAGE sql
AS $$
    INSERT INTO forge.jobs (
        id, kind, args, queue, run_at, priority, max_attempts, tenant_id, metadata, waits
    )
    SELECT
        place.id, $1, $2, $3, $4, $5::smallint, $6, $7,
        $8 || jsonb_strip_nulls(jsonb_build_object('sequence', $9)), place.waits
    FROM forge.jobs_place(sequence => $9, after => $10) AS place
    RETURNING id
$$;
COMMENT ON FUNCTION forge.enqueue IS 'Write a job in the caller''s transaction; return its id.';
