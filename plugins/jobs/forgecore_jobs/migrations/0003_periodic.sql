-- One row for each periodic entry of whichever deployment started last. Whoever locks a row that
-- is due writes the job and the next tick in one transaction: no tick has two jobs, however
-- many processes there are and whatever their clocks do.
CREATE TABLE forge.job_periodic (
    name text PRIMARY KEY,
    kind text NOT NULL,
    clock text NOT NULL,
    definition text NOT NULL,
    next_at timestamptz NOT NULL,
    last_at timestamptz,
    last_job bigint,
    paused_at timestamptz,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN forge.job_periodic.seen_at IS 'When a worker that has the entry last said so.';
