"""The history of ${view.resource.words}s: who changed what."""

${imports}


def history(conn: Connection[Any], ${view.resource.snake}_id: UUID) -> list[Entry]:
    """Return what happened to a ${view.resource.words}, the oldest first."""
% if view.resource.tenant_scoped:
    tenant = current_tenant("${view.resource.words}")
    return entries(conn, "${view.resource.table}", ${view.resource.snake}_id, tenant)
% else:
    return entries(conn, "${view.resource.table}", ${view.resource.snake}_id)
% endif
