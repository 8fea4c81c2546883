"""Actions of the resource ${view.name}: ${view.methods}.

A record and what plugins write beside it are one statement, in whatever transaction
the connection is in.
"""

${imports}

<%slot name="actions.module" resource="view.resource"/>

CONSTRAINTS: ${view.typing.Final}[${view.rt.Constraints}] = {
% for constraint in view.constraints:
    "${constraint.name}": ${constraint.fields},
% endfor
}

% for live in view.live:
# A foreign key accepts rows in the trash: a dead one becomes an id that no row has.
${live.name}: ${view.typing.Final} = """${block(live.text)}"""

% endfor
UPDATABLE: ${view.typing.Final}[${view.rt.Updatable}] = {
% for field in view.updatable:
    "${field.name}": (${"f" if "{" in field.assignment else ""}${literal(field.assignment)}, ${literal(field.difference)}),
% endfor
}

SELECT: ${view.typing.Final} = """
SELECT
    ${block(view.columns)}
FROM ${view.table}
"""

GET: ${view.typing.Final} = f"""{SELECT}WHERE ${block(view.get_key)}"""

CREATE: ${view.typing.Final} = """
WITH new AS (
    INSERT INTO ${view.table} (
        ${block(view.insert_columns)}
    )
    VALUES (
        ${block(view.insert_values)}
    )
    RETURNING *
)${arms("actions.create.ctes", resource=view.resource)}
SELECT
    ${block(view.columns)}
FROM new"""

UPDATE: ${view.typing.Final} = """
WITH old AS (
    SELECT * FROM ${view.table}
    WHERE ${block(view.key)}
    FOR NO KEY UPDATE
), new AS (
    UPDATE ${view.table}
    SET {assignments}${block(view.touch)}
    FROM old
    WHERE ${view.table}.id = old.id
        AND (
            {differences}
        )
    RETURNING ${view.table}.*
)${arms("actions.update.ctes", resource=view.resource, braces=True)}, record AS (
    SELECT * FROM new
    UNION ALL
    SELECT * FROM old WHERE NOT EXISTS (SELECT FROM new)
)
SELECT
    ${block(view.columns)}
FROM record"""

% if view.soft:
DELETE: ${view.typing.Final} = """
WITH old AS (
    SELECT * FROM ${view.table}
    WHERE ${block(view.key)}
    FOR NO KEY UPDATE
% if view.referring:
), referring AS (
    ${block(view.referring)}
% endif
), new AS (
    UPDATE ${view.table}
    SET deleted_at = now()
    FROM old
% if view.referring:
    WHERE ${view.table}.id = old.id AND NOT EXISTS (SELECT FROM referring)
% else:
    WHERE ${view.table}.id = old.id
% endif
    RETURNING ${view.table}.*
)${arms("actions.delete.ctes", resource=view.resource)}
% if view.referring:
SELECT
    EXISTS (SELECT FROM old),
    EXISTS (SELECT FROM new),
    ARRAY(SELECT name FROM referring)"""
% else:
SELECT EXISTS (SELECT FROM old), EXISTS (SELECT FROM new), ARRAY[]::text[]"""
% endif

RESTORE: ${view.typing.Final} = """
WITH old AS (
    SELECT * FROM ${view.table}
    WHERE ${block(view.key_deleted)}
    FOR NO KEY UPDATE
), new AS (
    UPDATE ${view.table}
    SET deleted_at = NULL${block(view.touch)}
    FROM old
    WHERE ${view.table}.id = old.id
    RETURNING ${view.table}.*
)${arms("actions.update.ctes", resource=view.resource)}
SELECT
    ${block(view.columns)}
FROM new"""
% else:
DELETE: ${view.typing.Final} = """
WITH old AS (
    SELECT * FROM ${view.table}
    WHERE ${block(view.key)}
    FOR UPDATE
), new AS (
    DELETE FROM ${view.table}
    USING old
    WHERE ${view.table}.id = old.id
    RETURNING ${view.table}.*
)${arms("actions.delete.ctes", resource=view.resource)}
SELECT EXISTS (SELECT FROM old), EXISTS (SELECT FROM new), ARRAY[]::text[]"""
% endif

NEWEST: ${view.typing.Final} = ${view.name}Columns.id.desc()


class _${view.name}(${view.rt.ActionsBase}[${view.name}]):
    """What the two flavours share."""

    _resource = "${view.words}"
    _model = ${view.name}
    _constraints = CONSTRAINTS

    def validate_create(self, data: ${view.name}Create, check: ${view.rt.Check}) -> None:
        """Check a new ${view.words}; override to add rules of your own."""
        check.apply(RULES, ${view.rt.given}(data))

    def validate_update(self, data: ${view.name}Update, check: ${view.rt.Check}) -> None:
        """Check changes to ${view.a_words}; override to add rules of your own."""
        check.apply(RULES, ${view.rt.given}(data))

    def _key(self, ${view.id}: ${view.uuid}) -> ${view.rt.Params}:
        return ${view.key_params}

    def _create(self, data: ${view.name}Create) -> ${view.rt.Params}:
        return self._key(${view.rt.uuid7}()) | ${view.given_create}${params("actions.create.ctes")}

    def _update(
        self, ${view.id}: ${view.uuid}, data: ${view.name}Update
    ) -> tuple[${view.typing.LiteralString}, ${view.rt.Params}]:
        changes = ${view.rt.given}(self._valid(data, self.validate_update))
        query = ${view.rt.partial}(UPDATE, UPDATABLE, changes) if changes else GET
        return query, self._key(${view.id}) | ${view.changes}${params("actions.update.ctes")}

    def _list(
        self,
        where: ${view.rt.Condition}[${view.name}] | None,
        order_by: ${view.rt.Order}[${view.name}],
        limit: int,
        after: str | None,
    ) -> tuple[${view.typing.LiteralString}, list[object]]:
% if view.scope:
        scope = ${view.rt.Condition}[${view.name}]("${view.scope}", ${view.scope_values})
        conditions = (scope, where) if where else (scope,)
% else:
        conditions = (where,) if where else ()
% endif
        return ${view.rt.list_query}(SELECT, conditions, order_by, limit, after)


% for flavour in view.flavours:
class ${flavour.prefix}${view.name}Actions(_${view.name}, ${getattr(view.rt, flavour.prefix + "Actions")}[${view.name}]):
    """Creates, reads, lists, updates and deletes ${view.many}${view.of_tenant}."""

    <%slot name="actions.method.decorators" resource="view.resource" method="'create'" is_async="flavour.is_async"/>
    ${flavour.async_}def create(self, data: ${view.name}Create) -> ${view.name}:
        """Insert ${view.a_words}."""
        return self._created(${flavour.await_}self._one(CREATE, self._create(data)))

    <%slot name="actions.method.decorators" resource="view.resource" method="'get'" is_async="flavour.is_async"/>
    ${flavour.async_}def get(self, ${view.id}: ${view.uuid}) -> ${view.name}:
        """Return the ${view.words} of that id."""
        return self._found(${flavour.await_}self._one(GET, self._key(${view.id})))

    <%slot name="actions.method.decorators" resource="view.resource" method="'list'" is_async="flavour.is_async"/>
    ${flavour.async_}def list(
        self,
        where: ${view.rt.Condition}[${view.name}] | None = None,
        *,
        order_by: ${view.rt.Order}[${view.name}] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> ${view.rt.Page}[${view.name}]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return ${flavour.await_}self._page(query, order_by, limit, after)

    <%slot name="actions.method.decorators" resource="view.resource" method="'update'" is_async="flavour.is_async"/>
    ${flavour.async_}def update(self, ${view.id}: ${view.uuid}, data: ${view.name}Update) -> ${view.name}:
        """Change ${view.a_words}; nothing is written where nothing is different."""
        return self._found(${flavour.await_}self._one(*self._update(${view.id}, data)))

    <%slot name="actions.method.decorators" resource="view.resource" method="'delete'" is_async="flavour.is_async"/>
    ${flavour.async_}def delete(self, ${view.id}: ${view.uuid}) -> None:
% if view.soft:
        """Put ${view.a_words} into the trash."""
% else:
        """Delete ${view.a_words} for good."""
% endif
        ${flavour.await_}self._delete(DELETE, self._key(${view.id})${params("actions.delete.ctes")})
% if view.soft:

    <%slot name="actions.method.decorators" resource="view.resource" method="'restore'" is_async="flavour.is_async"/>
    ${flavour.async_}def restore(self, ${view.id}: ${view.uuid}) -> ${view.name}:
        """Take ${view.a_words} out of the trash."""
        return self._found(${flavour.await_}self._one(RESTORE, self._key(${view.id})${params("actions.update.ctes")}))
% endif


% endfor
