CREATE TABLE forge.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource text NOT NULL,
    record_id uuid NOT NULL,
    tenant_id uuid,
    event text NOT NULL,
    was jsonb,
    became jsonb,
    changed_by uuid,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX audit_record_idx ON forge.audit (resource, record_id, changed_at);
CREATE INDEX audit_changed_at_idx ON forge.audit (changed_at);
