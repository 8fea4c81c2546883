-- Which job waits for which other one, and for what: that it `completed`, that it `failed`, that
-- it `ended` in whatever way, or that its `turn` in a sequence is over. A row stands until the
-- other job ends, that of a turn even if its own job was cancelled: who comes behind that one
-- waits for the same. Where `ended` is set the waiting job is still to be told, by jobs_release();
-- `unsure` is every new row: the other job may end before its transaction has committed.
CREATE TABLE forge.job_waits (
    job_id bigint NOT NULL,
    on_id bigint NOT NULL,
    needs text NOT NULL CHECK (needs IN ('completed', 'failed', 'ended', 'turn')),
    ended text DEFAULT 'unsure',
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
        IF last = own THEN
            -- It comes back as the last one that it was, behind the same job.
            UPDATE forge.job_waits AS wait SET ended = 'unsure'
            WHERE wait.job_id = own AND wait.needs = 'turn';
            count := count + (CASE WHEN FOUND THEN 1 ELSE 0 END);
            EXIT;
        END IF;
        DELETE FROM forge.job_waits AS wait WHERE wait.job_id = own AND wait.needs = 'turn';
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
CREATE FUNCTION forge.jobs_follow(ids bigint[], states text[]) RETURNS void
LANGUAGE plpgsql
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
            SET on_id = before.on_id, ended = 'unsure'
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
                END AS what,
                had.id IS NOT NULL AS is_had,
                EXISTS (SELECT FROM forge.jobs AS job WHERE job.id = wait.job_id) AS is_there
            FROM over
            JOIN forge.job_waits AS wait ON wait.on_id = over.id
            LEFT JOIN LATERAL (
                SELECT job.id
                FROM forge.jobs AS job
                WHERE job.id = wait.job_id
                FOR UPDATE SKIP LOCKED
            ) AS had ON true
            WHERE over.state <> 'passed' OR wait.needs = 'turn'
        ), later AS (
            UPDATE forge.job_waits AS wait
            SET ended = told.state
            FROM told
            WHERE (wait.job_id, wait.on_id, wait.needs) = (told.job_id, told.on_id, told.needs)
                AND told.is_there
                AND NOT told.is_had
        ), unlinked AS (
            DELETE FROM forge.job_waits AS wait
            USING told
            WHERE (wait.job_id, wait.on_id, wait.needs) = (told.job_id, told.on_id, told.needs)
                AND (told.is_had OR NOT told.is_there)
        ), fate AS MATERIALIZED (
            SELECT
                told.job_id AS id,
                count(*) AS less,
                bool_or(told.what = 'cancelled') AS is_cancelled,
                bool_or(told.what = 'dropped') AS is_dropped,
                min(format('job %s was %s', told.on_id, told.state))
                    FILTER (WHERE told.what = 'cancelled') AS message
            FROM told
            WHERE told.is_had
            GROUP BY told.job_id
        ), nearer AS (
            UPDATE forge.jobs AS job
            SET
                waits = greatest(job.waits - fate.less, 0),
                -- above what claims have gone past
                run_at = greatest(job.run_at, clock_timestamp())
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

-- Who began to wait while the other one ended is told where its transaction commits, if that
-- can be seen by then and this role may; otherwise by jobs_release(). It waits for no lock, and
-- holds none.
CREATE FUNCTION forge.jobs_wait_check() RETURNS trigger
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    other smallint;
BEGIN
    PERFORM FROM forge.job_waits AS wait
    WHERE wait.job_id = NEW.job_id AND wait.on_id = NEW.on_id AND wait.needs = NEW.needs;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT job.waits INTO other FROM forge.jobs AS job WHERE job.id = NEW.on_id;
    IF NOT FOUND THEN
        PERFORM forge.jobs_follow(ARRAY[NEW.on_id], ARRAY[forge.jobs_state(NEW.on_id)]);
    ELSIF NEW.needs = 'turn' AND other = -1 THEN
        PERFORM forge.jobs_follow(ARRAY[NEW.on_id], ARRAY['passed']);
    END IF;
    RETURN NULL;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER job_waits_check AFTER INSERT OR UPDATE OF on_id ON forge.job_waits
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION forge.jobs_wait_check();

-- How a job that is not live any more has ended; `dropped` if nothing is known of it.
CREATE FUNCTION forge.jobs_state(own bigint) RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT coalesce(
        (
            SELECT job.state FROM forge.jobs_finished AS job
            WHERE job.id = own
            ORDER BY job.finished_at DESC
            LIMIT 1
        ),
        'dropped'
    )
$$;

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
    ELSE
        -- From here on the other job's end sees the row: whoever ends it waits for this lock.
        WITH seen AS MATERIALIZED (
            SELECT wait.job_id, wait.on_id, wait.needs
            FROM (
                SELECT * FROM forge.job_waits AS wait WHERE wait.ended = 'unsure' LIMIT 10000
            ) AS wait
            CROSS JOIN LATERAL (
                SELECT FROM forge.jobs AS job
                WHERE job.id = wait.on_id AND (job.waits >= 0 OR wait.needs <> 'turn')
                FOR SHARE SKIP LOCKED
            ) AS job
        )
        UPDATE forge.job_waits AS wait
        SET ended = NULL
        FROM seen
        WHERE (wait.job_id, wait.on_id, wait.needs) = (seen.job_id, seen.on_id, seen.needs);
    END IF;
    SELECT array_agg(late.on_id), array_agg(late.state)
    INTO ids, states
    FROM (
        SELECT DISTINCT ON (wait.on_id)
            wait.on_id,
            CASE
                WHEN job.waits = -1 THEN 'passed'
                WHEN job.id IS NULL AND (wait.ended IS NULL OR wait.ended = 'unsure')
                THEN forge.jobs_state(wait.on_id)
                ELSE wait.ended
            END AS state
        FROM forge.job_waits AS wait
        LEFT JOIN forge.jobs AS job ON job.id = wait.on_id
        WHERE (wait.ended IS NOT NULL OR is_thorough)
            -- of those that still run, only a failed one has something to tell
            AND (job.id IS NULL OR (job.waits = -1 AND wait.needs = 'turn'))
        ORDER BY wait.on_id
        LIMIT 10000
    ) AS late;
    PERFORM forge.jobs_follow(ids, states);
    RETURN coalesce(cardinality(ids), 0);
END
$$;

-- A job that failed and let its sequence pass comes in again at the end of it. False: somebody
-- is there, and it waits for that one; or the sequence is somebody's open transaction's just
-- now, and it is given back for a second.
CREATE FUNCTION forge.jobs_enter(own bigint, attempts integer, worker bigint) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET lock_timeout = '50ms'
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
    SELECT entry.job_id INTO last
    FROM forge.job_keys AS entry
    WHERE entry.key = name
    FOR UPDATE SKIP LOCKED;
    IF last IS NULL THEN
        IF EXISTS (SELECT FROM forge.job_keys AS entry WHERE entry.key = name) THEN
            RAISE lock_not_available;
        END IF;
        -- It waits for somebody who writes the same key just now, but not for long.
        INSERT INTO forge.job_keys AS entry (key, job_id) VALUES (name, own)
        ON CONFLICT (key) DO NOTHING;
        IF NOT FOUND THEN
            RAISE lock_not_available;
        END IF;
    END IF;
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
    UPDATE forge.jobs AS job
    SET worker_id = NULL, started_at = NULL, run_at = clock_timestamp() + interval '1 second'
    WHERE job.id = own AND job.attempt = attempts AND job.worker_id = worker;
    RETURN false;
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
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    own bigint;
BEGIN
    IF $9 IS NULL AND cardinality($10) = 0 THEN
        INSERT INTO forge.jobs (
            kind, args, queue, run_at, priority, max_attempts, tenant_id, metadata
        )
        VALUES ($1, $2, $3, $4, $5::smallint, $6, $7, $8)
        RETURNING id INTO own;
    ELSE
        INSERT INTO forge.jobs (
            id, kind, args, queue, run_at, priority, max_attempts, tenant_id, metadata, waits
        )
        SELECT
            place.id, $1, $2, $3, $4, $5::smallint, $6, $7,
            $8 || jsonb_strip_nulls(
                jsonb_build_object(
                    'sequence', $9, 'after', nullif(array_to_string($10, ','), '')
                )
            ),
            place.waits
        FROM forge.jobs_place(sequence => $9, after => $10) AS place
        RETURNING id INTO own;
    END IF;
    RETURN own;
END
$$;
COMMENT ON FUNCTION forge.enqueue IS 'Write a job in the caller''s transaction; return its id.';
