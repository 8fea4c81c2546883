"""The history of products: who changed what."""

from typing import Any
from uuid import UUID

from forgecore.runtime import current_tenant
from forgecore_audit import Entry, entries
from psycopg import Connection


def history(conn: Connection[Any], product_id: UUID) -> list[Entry]:
    """Return what happened to a product, the oldest first."""
    tenant = current_tenant("product")
    return entries(conn, "products", product_id, tenant)
