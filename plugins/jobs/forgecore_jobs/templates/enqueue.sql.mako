${arm}${view.suffix} AS (
% if view.changed:
    WITH changed AS MATERIALIZED (
        SELECT new.* FROM new, old
        WHERE ${block("\n            AND ".join(view.changed))}
    )
% endif
    ${block(view.head)}
    SELECT
        ${block(",\n        ".join(view.selected))}
    FROM ${view.new},${" old," if view.where and not view.key else ""} (
        VALUES
            ${block(",\n            ".join(view.rows))}
    ) AS hook (${view.columns})${"," if view.key or view.turn else ""}
% if view.key:
    forge.jobs_unique(
        ${block(",\n        ".join(view.key))}
    ) AS key${"," if view.turn else ""}
% endif
% if view.turn:
    forge.jobs_place(
        ${block(",\n        ".join(view.turn))}
    ) AS place
% endif
% if view.where:
    WHERE ${block("\n        AND ".join(view.where))}
% endif
)
