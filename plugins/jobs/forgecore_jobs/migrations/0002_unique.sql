-- Which job has a unique key. Changes of a job's state never touch this table: whether a key is
-- still taken is found out when the next one wants it, so no conflict can stop a rescue, a
-- retry or an outcome.
CREATE TABLE forge.job_keys (
    key text PRIMARY KEY,
    job_id bigint NOT NULL,
    expires_at timestamptz
);

-- Take the key of a job to be written, or give the job that has it. The other job cannot start
-- before the caller's transaction ends: what the caller writes is seen by it.
CREATE FUNCTION forge.jobs_unique(
    kind text,
    args jsonb,
    queue text,
    tenant_id uuid DEFAULT NULL,
    by text[] DEFAULT NULL,
    until text DEFAULT 'started',
    period interval DEFAULT NULL,
    by_queue boolean DEFAULT false,
    replaced text[] DEFAULT '{}',
    run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL
) RETURNS TABLE (job_id bigint, is_new boolean)
LANGUAGE plpgsql
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
    counted jsonb := CASE WHEN by IS NULL THEN args ELSE (
        SELECT jsonb_object_agg(name, args -> name) FROM unnest(by) AS name
    ) END;
    own text := encode(
        sha256(
            convert_to(
                jsonb_build_array(
                    kind, tenant_id, CASE WHEN by_queue THEN queue END, counted
                )::text,
                'UTF8'
            )
        ),
        'hex'
    );
    expires timestamptz := clock_timestamp() + period;
    held forge.job_keys;
    is_mine boolean := false;
BEGIN
    LOOP
        IF is_mine THEN
            SELECT * INTO held FROM forge.job_keys AS entry WHERE entry.key = own FOR UPDATE;
        ELSE
            SELECT * INTO held FROM forge.job_keys AS entry WHERE entry.key = own;
        END IF;
        IF NOT FOUND THEN
            INSERT INTO forge.job_keys (key, job_id, expires_at)
            VALUES (own, nextval(pg_get_serial_sequence('forge.jobs', 'id')), expires)
            ON CONFLICT (key) DO NOTHING
            RETURNING job_keys.job_id INTO jobs_unique.job_id;
            IF FOUND THEN
                is_new := true;
                RETURN NEXT;
                RETURN;
            END IF;
            CONTINUE;  -- somebody was faster, and has committed
        END IF;
        IF period IS NOT NULL AND held.expires_at IS NOT NULL THEN
            PERFORM WHERE held.expires_at > clock_timestamp();
        ELSIF EXISTS (
            SELECT FROM forge.job_waits AS wait
            WHERE wait.job_id = held.job_id AND wait.needs IN ('completed', 'failed')
        ) THEN
            -- It may never run: what it waits for may end otherwise.
            PERFORM WHERE false;
        ELSIF until = 'finished' THEN
            PERFORM FROM forge.jobs AS job WHERE job.id = held.job_id;
        ELSIF cardinality(replaced) > 0 THEN
            PERFORM FROM forge.jobs AS job
            WHERE job.id = held.job_id AND job.worker_id IS NULL
            FOR NO KEY UPDATE;
        ELSE
            PERFORM FROM forge.jobs AS job
            WHERE job.id = held.job_id AND job.worker_id IS NULL
            FOR SHARE;
        END IF;
        EXIT WHEN FOUND;
        IF is_mine THEN
            UPDATE forge.job_keys AS entry
            SET job_id = nextval(pg_get_serial_sequence('forge.jobs', 'id')), expires_at = expires
            WHERE entry.key = own
            RETURNING entry.job_id INTO jobs_unique.job_id;
            is_new := true;
            RETURN NEXT;
            RETURN;
        END IF;
        is_mine := true;  -- nobody seems to have it: once more, and nobody else meanwhile
    END LOOP;
    IF cardinality(replaced) > 0 THEN
        UPDATE forge.jobs AS job
        SET
            args = CASE WHEN 'args' = ANY (replaced) THEN jobs_unique.args ELSE job.args END,
            run_at = CASE
                WHEN 'run_at' = ANY (replaced) THEN coalesce(jobs_unique.run_at, now())
                ELSE job.run_at
            END,
            priority = CASE
                WHEN 'priority' = ANY (replaced) THEN coalesce(jobs_unique.priority, 5)
                ELSE job.priority
            END
        WHERE job.id = held.job_id AND job.worker_id IS NULL;
    END IF;
    job_id := held.job_id;
    is_new := false;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION forge.jobs_unique IS
    'Take the key of a job that is about to be written, or return the job that has it.';
