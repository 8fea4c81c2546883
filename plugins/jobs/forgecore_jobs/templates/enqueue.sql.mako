${arm} AS (
    ${block(view.head)}
    SELECT
        ${block(",\n        ".join(view.selected))}
    FROM new, (
        VALUES
            ${block(",\n            ".join(view.rows))}
    ) AS hook (${view.columns})
)
