"""The history of a record, as forge.audit has it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import frozen
from psycopg import Connection
from psycopg.rows import class_row

_ENTRIES = """
    SELECT event, was, became, changed_by, changed_at
    FROM forge.audit
    WHERE resource = %s AND record_id = %s AND tenant_id IS NOT DISTINCT FROM %s
    ORDER BY changed_at, id
"""


@frozen
class Entry:
    """A change: its values before and after, those of a create or a delete on one side only."""

    event: str
    was: Mapping[str, Any] | None
    became: Mapping[str, Any] | None
    changed_by: UUID | None
    changed_at: datetime


def entries(
    conn: Connection[Any], resource: str, record_id: UUID, tenant_id: UUID | None = None
) -> list[Entry]:
    """Return what happened to a record, the oldest first."""
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_ENTRIES, (resource, record_id, tenant_id)).fetchall()
