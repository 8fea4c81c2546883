"""The view of schema.sql: every table, constraint and index of the resources."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve, frozen

from forgecore.data.literals import sql_literal
from forgecore.data.sql import columns
from forgecore.names import constraint
from forgecore.plugin import IR, Diagnostic, Field, GeneratedFile, Relation, Resource, quoted
from forgecore.source import Origin


@frozen
class TableView:
    """A table: its name, the lines between its parentheses, and its indexes."""

    name: str
    lines: str
    indexes: tuple[str, ...]


@frozen(kw_only=True)
class IndexSpec:
    """An index: its columns, whether it is unique and whether it holds live rows alone."""

    name: str
    keys: tuple[str, ...]
    unique: bool
    live: bool
    origin: Origin


@frozen(kw_only=True)
class SchemaView:
    """What schema.sql.mako prints."""

    tables: tuple[TableView, ...]
    references: tuple[str, ...]


def schema_file(ir: IR) -> GeneratedFile:
    """Make the file of the database's schema."""
    view = SchemaView(
        tables=tuple(_table(resource) for resource in ir.resources),
        references=tuple(one for resource in ir.resources for one in _references(resource, ir)),
    )
    return GeneratedFile(
        path="gen/schema.sql", template="forgecore.data:templates/schema.sql.mako", view=view
    )


def _table(resource: Resource) -> TableView:
    lines = [*_column_lines(resource), *_constraint_lines(resource)]
    return TableView(resource.sql_table, ",\n    ".join(lines), tuple(_indexes(resource)))


def _column_lines(resource: Resource) -> Iterator[str]:
    fields = {field.name: field for field in resource.fields}
    relations = {relation.attribute: relation for relation in resource.relations}
    for column in columns(resource):
        if column.name in fields:
            yield f"{column.sql} {_field_type(fields[column.name])}"
        elif column.name in relations:
            yield f"{column.sql} uuid{' NOT NULL' if relations[column.name].required else ''}"
        else:
            yield f"{column.sql} {_OWN[column.name]}"


_OWN: Final = {
    "id": "uuid NOT NULL",
    "tenant_id": "uuid NOT NULL",
    "created_at": "timestamptz DEFAULT now() NOT NULL",
    "updated_at": "timestamptz DEFAULT now() NOT NULL",
    "deleted_at": "timestamptz",
}


def _field_type(field: Field) -> str:
    sql = field.kind.sql(field)
    parts = [sql]
    if field.has_default:
        value = field.kind.value(field, field.default)
        text = sql_literal(json.dumps(value) if sql == "jsonb" else value)
        parts.append(f"DEFAULT {text}")
    if not field.nullable:
        parts.append("NOT NULL")
    return " ".join(parts)


def _constraint_lines(resource: Resource) -> Iterator[str]:
    yield f"CONSTRAINT {_name(resource, [], 'pkey')} PRIMARY KEY (id)"
    if resource.tenant_scoped:
        # What composite foreign keys refer to, and what `id = .. AND tenant_id = ..` is read by.
        yield f"CONSTRAINT {_name(resource, ['tenant_id', 'id'], 'key')} UNIQUE (tenant_id, id)"
    for field in resource.fields:
        if condition := field.kind.check(field, field.column):
            yield f"CONSTRAINT {_name(resource, [field.name], 'check')} CHECK ({condition})"


def name_collisions(resources: Sequence[Resource]) -> Iterator[Diagnostic]:
    """Report tables and indexes that would have one name in the database."""
    first: dict[str, Origin] = {}
    tables = [resource.table for resource in resources]
    for resource in resources:
        if tables.count(resource.table) > 1:
            continue  # the core says so
        for name, origin in _names_of(resource):
            other = first.setdefault(name, origin)
            if other is not origin and other.span() != origin.span():
                text = f"the database would have `{name}` twice"
                also = ((other.span(), "the other one"),)
                yield Diagnostic("name-collision", origin.span(), text, also=also)


def _names_of(resource: Resource) -> Iterator[tuple[str, Origin]]:
    """Give the names of its table and indexes, which are one of a kind in a schema."""
    yield resource.table, resource.origin
    yield from ((spec.name, spec.origin) for spec in _specs(resource))
    yield constraint(resource.table, [], "pkey"), resource.origin
    if resource.tenant_scoped:
        yield constraint(resource.table, ["tenant_id", "id"], "key"), resource.origin


def _indexes(resource: Resource) -> Iterator[str]:
    live = " WHERE deleted_at IS NULL" if resource.soft_delete else ""
    for spec in _specs(resource):
        keys = ", ".join(quoted(key) for key in spec.keys)
        kind = "UNIQUE INDEX" if spec.unique else "INDEX"
        where = live if spec.live else ""
        yield f"CREATE {kind} {quoted(spec.name)} ON {resource.sql_table} ({keys}){where};"


def _specs(resource: Resource) -> Iterator[IndexSpec]:
    def spec(names: list[str], suffix: str, keys: list[str], origin: Origin) -> IndexSpec:
        return IndexSpec(
            name=constraint(resource.table, names, suffix),
            keys=tuple(keys),
            unique=suffix == "key",
            live=True,
            origin=origin,
        )

    tenant = ["tenant_id"] if resource.tenant_scoped else []
    for field in resource.fields:
        if field.unique:
            yield spec([field.name], "key", [*tenant, field.name], field.origin)
    for together in resource.uniques:
        names = resource.attributes(together)
        yield spec(names, "key", [*tenant, *names], together.origin)
    sortable = [(field.name, field.origin) for field in resource.fields if field.sortable]
    sortable += [("created_at", resource.origin)] if resource.timestamps else []
    for column, origin in sortable:
        yield spec([*tenant, column], "idx", [*tenant, column, "id"], origin)
    for relation in resource.relations:
        # Of every row: what Postgres looks for when the row that is referred to goes.
        yield evolve(
            spec([relation.attribute], "idx", [relation.attribute], relation.origin), live=False
        )
    for together in resource.indexes:
        names = [*tenant, *resource.attributes(together)]
        yield spec(names, "idx", names, together.origin)


def _references(resource: Resource, ir: IR) -> Iterator[str]:
    for relation in resource.relations:
        target = ir.resource(relation.target)
        both = resource.tenant_scoped and target.tenant_scoped
        own = f"tenant_id, {relation.column}" if both else relation.column
        theirs = "tenant_id, id" if both else "id"
        yield (
            f"ALTER TABLE {resource.sql_table} ADD CONSTRAINT "
            f"{_name(resource, [relation.attribute], 'fkey')}\n"
            f"    FOREIGN KEY ({own}) REFERENCES {target.sql_table} ({theirs})"
            f"{_on_delete(relation)};"
        )


def _on_delete(relation: Relation) -> str:
    # The column list keeps the tenant: a plain SET NULL would clear both columns.
    return {
        "restrict": "",
        "cascade": " ON DELETE CASCADE",
        "set_null": f" ON DELETE SET NULL ({relation.column})",
    }[relation.on_delete]


def _name(resource: Resource, names: list[str], kind: str) -> str:
    return quoted(constraint(resource.table, names, kind))
