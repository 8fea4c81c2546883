${arm} AS (
    INSERT INTO forge.audit (resource, record_id, tenant_id, event, was, became, changed_by)
    SELECT
        '${view.of.resource.table}', new.id, ${view.of.tenant}, '${view.event}',
        ${view.was},
        ${view.became},
        %(audit__user)s::uuid
    FROM ${view.rows}
)
