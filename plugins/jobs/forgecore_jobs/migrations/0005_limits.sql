-- Which jobs of limited queues were claimed under their limit. A row counts while its job runs
-- with that attempt, and is taken away by the next claim when it does not: nothing has to give
-- it back, so nothing can be lost of it. `tenant_id` is zero for jobs without one.
CREATE TABLE forge.job_slots (
    job_id bigint PRIMARY KEY,
    attempt integer NOT NULL,
    queue text NOT NULL,
    tenant_id uuid NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX job_slots_queue_idx ON forge.job_slots (queue, tenant_id);

-- How many jobs began when, where a queue has a rate: one row for each claim, kept for a period.
CREATE TABLE forge.job_starts (
    queue text NOT NULL,
    tenant_id uuid NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    jobs integer NOT NULL
);
CREATE INDEX job_starts_queue_idx ON forge.job_starts (queue, began_at);

-- Which tenant of a queue had its turn last.
CREATE TABLE forge.job_turns (
    queue text PRIMARY KEY,
    tenant_id uuid NOT NULL
);

-- Claim from one queue, within its limits. Claims of one queue take turns, and each sees what
-- the one before it claimed: who counts first and claims then oversteps any limit.
CREATE FUNCTION forge.jobs_claim_limited(
    worker bigint,
    kinds text[],
    attempts integer,
    queue text,
    most integer,
    floor_queues text[],
    floor_priorities smallint[],
    floor_times timestamptz[],
    floor_ids bigint[],
    levels smallint[],
    suspects boolean,
    queue_limit integer,
    rate integer,
    period interval,
    tenant_limit integer,
    tenant_rate integer,
    tenant_period interval,
    by_tenant boolean
) RETURNS TABLE (
    id bigint, kind text, queue_name text, args text, tenant_id uuid, metadata text,
    attempt integer, failures integer, max_attempts integer, backoff text, timeout_s float8,
    kills integer, priority smallint, run_at timestamptz
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
    free integer := most;
    picked bigint[];
BEGIN
    IF EXISTS (
        SELECT FROM forge.job_pauses AS pause WHERE pause.what = 'queue' AND pause.name = queue
    ) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(1718579832, hashtext(queue));
    DELETE FROM forge.job_slots AS slot
    WHERE slot.queue = jobs_claim_limited.queue
        AND NOT EXISTS (
            SELECT FROM forge.jobs AS job
            WHERE job.id = slot.job_id
                AND job.attempt = slot.attempt
                AND job.worker_id IS NOT NULL
        );
    DELETE FROM forge.job_starts AS start
    WHERE start.queue = jobs_claim_limited.queue
        AND start.began_at <= clock_timestamp() - greatest(period, tenant_period);
    IF queue_limit IS NOT NULL THEN
        free := least(free, queue_limit - (
            SELECT count(*) FROM forge.job_slots AS slot
            WHERE slot.queue = jobs_claim_limited.queue
        ));
    END IF;
    IF rate IS NOT NULL THEN
        free := least(free, rate - (
            SELECT coalesce(sum(start.jobs), 0) FROM forge.job_starts AS start
            WHERE start.queue = jobs_claim_limited.queue
                AND start.began_at > clock_timestamp() - period
        ));
    END IF;
    IF free <= 0 THEN
        RETURN;
    END IF;
    IF by_tenant THEN
        picked := forge.jobs_pick_by_tenant(
            kinds, queue, free, levels, suspects, tenant_limit, tenant_rate, tenant_period
        );
    END IF;
    RETURN QUERY
    WITH claimed AS MATERIALIZED (
        SELECT *
        FROM forge.jobs_claim(
            worker, kinds, attempts, ARRAY[queue], ARRAY[free], floor_queues, floor_priorities,
            floor_times, floor_ids, levels, suspects
        )
        WHERE NOT by_tenant
        UNION ALL
        SELECT * FROM forge.jobs_start(worker, attempts, picked) WHERE by_tenant
    ), slot AS (
        INSERT INTO forge.job_slots AS slot (job_id, attempt, queue, tenant_id)
        SELECT
            claimed.id, claimed.attempt, claimed.queue,
            coalesce(claimed.tenant_id, '00000000-0000-0000-0000-000000000000')
        FROM claimed
        WHERE queue_limit IS NOT NULL OR tenant_limit IS NOT NULL
        ON CONFLICT (job_id) DO UPDATE
        SET attempt = excluded.attempt, queue = excluded.queue, tenant_id = excluded.tenant_id
    ), start AS (
        INSERT INTO forge.job_starts (queue, tenant_id, jobs)
        SELECT
            claimed.queue, coalesce(claimed.tenant_id, '00000000-0000-0000-0000-000000000000'),
            count(*)
        FROM claimed
        WHERE rate IS NOT NULL OR tenant_rate IS NOT NULL
        GROUP BY claimed.queue, claimed.tenant_id
    )
    SELECT * FROM claimed;
END
$$;

-- Begin these jobs, which the caller has locked.
CREATE FUNCTION forge.jobs_start(worker bigint, attempts integer, picked bigint[]) RETURNS TABLE (
    id bigint, kind text, queue text, args text, tenant_id uuid, metadata text,
    attempt integer, failures integer, max_attempts integer, backoff text, timeout_s float8,
    kills integer, priority smallint, run_at timestamptz
)
LANGUAGE sql
SET enable_seqscan = off
AS $$
    WITH alive AS MATERIALIZED (
        SELECT FROM forge.job_workers AS entry
        WHERE entry.id = worker AND cardinality(picked) > 0
        FOR KEY SHARE
    )
    UPDATE forge.jobs AS job
    SET
        attempt = job.attempt + 1,
        worker_id = worker,
        started_at = now(),
        max_attempts = coalesce(job.max_attempts, attempts)
    WHERE job.id = ANY (picked) AND EXISTS (SELECT FROM alive)
    RETURNING
        job.id, job.kind, job.queue, job.args::text, job.tenant_id, job.metadata::text,
        job.attempt, job.failures, job.max_attempts, job.backoff,
        CASE WHEN job.timeout IS NOT NULL THEN least(extract(epoch FROM job.timeout), 1e9) END::float8,
        job.kills, job.priority, job.run_at
$$;

-- The due jobs of a tenant in a queue, the best priority first, up to so many of them.
CREATE FUNCTION forge.jobs_due_of_tenant(
    known text[], queue text, tenant uuid, levels smallint[], most integer, suspects boolean
) RETURNS SETOF bigint
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_sort = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY
    SELECT waiting.id
    FROM unnest(levels) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT job.id
        FROM forge.jobs AS job
        WHERE job.queue = jobs_due_of_tenant.queue
            AND coalesce(job.tenant_id, '00000000-0000-0000-0000-000000000000') = tenant
            AND job.priority = level.priority
            AND job.waits <= 0
            AND job.run_at <= now()
            AND job.worker_id IS NULL
            AND job.attempt < 2000000000
            AND job.kind = ANY (known)
            AND (job.kills >= 2) = suspects
        ORDER BY job.run_at, job.id
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS waiting
    LIMIT most;
END
$$;

-- Choose and lock up to so many due jobs of a queue: one of each tenant, beginning behind the
-- tenant that had its turn last, then a second one of each, and so on.
CREATE FUNCTION forge.jobs_pick_by_tenant(
    kinds text[], queue text, most integer, levels smallint[], suspects boolean,
    tenant_limit integer, tenant_rate integer, tenant_period interval
) RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
    zero CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    known text[] := ARRAY(
        SELECT unnest(kinds)
        EXCEPT
        SELECT pause.name FROM forge.job_pauses AS pause WHERE pause.what = 'kind'
    );
    last uuid := (
        SELECT turn.tenant_id FROM forge.job_turns AS turn
        WHERE turn.queue = jobs_pick_by_tenant.queue
    );
    here uuid := last;
    behind smallint := CASE WHEN last IS NULL THEN -1 ELSE 32767 END;
    in_second_half boolean := last IS NULL;
    free integer;
    seen uuid[] := '{}';
    shares integer[] := '{}';
    ids bigint[] := '{}';
    rounds integer[] := '{}';
    tenants uuid[] := '{}';
    found_ids bigint[];
    chosen bigint[];
    visited integer := 0;
    passed_by uuid;
BEGIN
    -- Hardly ever are there any: their index says so at once.
    suspects := suspects AND EXISTS (
        SELECT FROM forge.jobs AS job WHERE job.kills >= 2 AND job.worker_id IS NULL
    );
    -- Which tenants can have a job begun, and how many: each takes part in the first round.
    LOOP
        -- Not by the variable: the index has the value itself.
        SELECT coalesce(job.tenant_id, '00000000-0000-0000-0000-000000000000') INTO here
        FROM forge.jobs AS job
        WHERE job.queue = jobs_pick_by_tenant.queue
            AND job.waits <= 0
            AND (coalesce(job.tenant_id, '00000000-0000-0000-0000-000000000000'), job.priority)
                > (coalesce(here, zero), behind)
        ORDER BY
            coalesce(job.tenant_id, '00000000-0000-0000-0000-000000000000'),
            job.priority, job.run_at, job.id
        LIMIT 1;
        behind := 32767;
        IF NOT FOUND THEN
            EXIT WHEN in_second_half;
            in_second_half := true;
            here := zero;
            behind := -1;
            CONTINUE;
        END IF;
        EXIT WHEN in_second_half AND here > last;
        -- The next claim goes on from here: this one is others' time as well.
        EXIT WHEN visited >= 500;
        visited := visited + 1;
        passed_by := here;
        free := most;
        IF tenant_limit IS NOT NULL THEN
            free := least(free, tenant_limit - (
                SELECT count(*) FROM forge.job_slots AS slot
                WHERE slot.queue = jobs_pick_by_tenant.queue AND slot.tenant_id = here
            ));
        END IF;
        IF tenant_rate IS NOT NULL THEN
            free := least(free, tenant_rate - (
                SELECT coalesce(sum(start.jobs), 0) FROM forge.job_starts AS start
                WHERE start.queue = jobs_pick_by_tenant.queue
                    AND start.tenant_id = here
                    AND start.began_at > clock_timestamp() - tenant_period
            ));
        END IF;
        CONTINUE WHEN free <= 0;
        -- One suspect at a time in a process, as jobs_claim() has it.
        found_ids := ARRAY(
            SELECT forge.jobs_due_of_tenant(known, queue, here, levels, 1, true) WHERE suspects
        );
        IF cardinality(found_ids) = 0 THEN
            found_ids := ARRAY(
                SELECT forge.jobs_due_of_tenant(known, queue, here, levels, 1, false)
            );
            CONTINUE WHEN cardinality(found_ids) = 0;
        ELSE
            suspects := false;
        END IF;
        ids := ids || found_ids;
        rounds := rounds || 1;
        tenants := tenants || here;
        seen := seen || here;
        shares := shares || free;
        EXIT WHEN cardinality(seen) >= most;
    END LOOP;
    IF cardinality(seen) BETWEEN 1 AND most - 1 THEN
        -- More of each, in equal shares.
        FOR place IN 1..cardinality(seen) LOOP
            here := seen[place];
            found_ids := ARRAY(
                SELECT more.id
                FROM forge.jobs_due_of_tenant(
                    known, queue, here, levels,
                    least(shares[place], (most - 1) / cardinality(seen) + 1), false
                ) AS more (id)
                WHERE more.id <> ids[place]
            );
            CONTINUE WHEN cardinality(found_ids) = 0;
            ids := ids || found_ids;
            rounds := rounds || ARRAY(SELECT generate_series(2, cardinality(found_ids) + 1));
            tenants := tenants || array_fill(here, ARRAY[cardinality(found_ids)]);
        END LOOP;
    END IF;
    SELECT array_agg(pick.id), (array_agg(pick.tenant ORDER BY pick.round DESC, pick.place DESC))[1]
    INTO chosen, here
    FROM (
        SELECT pick.id, pick.round, pick.tenant, pick.place
        FROM unnest(ids, rounds, tenants) WITH ORDINALITY AS pick (id, round, tenant, place)
        ORDER BY pick.round, pick.place
        LIMIT most
    ) AS pick;
    here := coalesce(here, CASE WHEN visited >= 500 THEN passed_by END);
    IF here IS NOT NULL THEN
        INSERT INTO forge.job_turns AS turn (queue, tenant_id) VALUES (queue, here)
        ON CONFLICT ON CONSTRAINT job_turns_pkey DO UPDATE SET tenant_id = excluded.tenant_id;
    END IF;
    RETURN coalesce(chosen, '{}');
END
$$;

-- The index that finds a queue's tenants and each one's next job. Made by the first process that
-- has a queue which goes by tenants: nobody else pays for it. False where the table is so large
-- that it is to be made by hand, concurrently.
CREATE FUNCTION forge.jobs_index_tenants() RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
AS $$
BEGIN
    IF to_regclass('forge.jobs_tenants_idx') IS NOT NULL THEN
        RETURN true;
    END IF;
    IF pg_relation_size('forge.jobs') > 64 * 1024 * 1024 THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('forge.jobs_index_tenants'));
    CREATE INDEX IF NOT EXISTS jobs_tenants_idx ON forge.jobs (
        queue, coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), priority, run_at, id
    ) WHERE waits <= 0;
    RETURN true;
END
$$;
