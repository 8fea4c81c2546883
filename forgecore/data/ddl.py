"""The view of schema.sql: every table, constraint and index of the resources."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve, frozen

from forgecore.data.literals import sql_literal
from forgecore.data.sql import columns
from forgecore.names import constraint
from forgecore.plugin import (
    IR,
    Diagnostic,
    Field,
    GeneratedFile,
    Relation,
    Resource,
    Together,
    quoted,
)
from forgecore.source import Origin


@frozen
class PartView:
    """A column, a constraint or an index: its text, and what it is of."""

    text: str
    of: Field | Relation | Together | Resource


@frozen
class TableView:
    """A table: its name, the lines between its parentheses, and its indexes."""

    name: str
    lines: tuple[PartView, ...]
    indexes: tuple[PartView, ...]
    of: Resource


@frozen(kw_only=True)
class IndexSpec:
    """An index: its columns, whether it is unique and whether it holds live rows alone."""

    name: str
    keys: tuple[str, ...]
    unique: bool
    live: bool
    of: Field | Relation | Together | Resource

    @property
    def origin(self) -> Origin:
        """Where it was written."""
        return self.of.origin


@frozen(kw_only=True)
class SchemaView:
    """What schema.sql.mako prints."""

    tables: tuple[TableView, ...]
    references: tuple[PartView, ...]


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
    lines = (*_column_lines(resource), *_constraint_lines(resource))
    return TableView(resource.sql_table, lines, tuple(_indexes(resource)), resource)


def _column_lines(resource: Resource) -> Iterator[PartView]:
    fields = {field.name: field for field in resource.fields}
    relations = {relation.attribute: relation for relation in resource.relations}
    for column in columns(resource):
        if column.name in fields:
            field = fields[column.name]
            yield PartView(f"{column.sql} {_field_type(field)}", field)
        elif column.name in relations:
            relation = relations[column.name]
            null = " NOT NULL" if relation.required else ""
            yield PartView(f"{column.sql} uuid{null}", relation)
        else:
            yield PartView(f"{column.sql} {_OWN[column.name]}", resource)


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


def _constraint_lines(resource: Resource) -> Iterator[PartView]:
    key = _name(resource, [], "pkey")
    yield PartView(f"CONSTRAINT {key} PRIMARY KEY (id)", resource)
    if resource.tenant_scoped:
        # What composite foreign keys refer to, and what `id = .. AND tenant_id = ..` is read by.
        key = _name(resource, ["tenant_id", "id"], "key")
        yield PartView(f"CONSTRAINT {key} UNIQUE (tenant_id, id)", resource)
    for field in resource.fields:
        if condition := field.kind.check(field, field.column):
            name = _name(resource, [field.name], "check")
            yield PartView(f"CONSTRAINT {name} CHECK ({condition})", field)


def name_collisions(resources: Sequence[Resource]) -> Iterator[Diagnostic]:
    """Report tables and indexes that would have one name in the database."""
    first: dict[str, Origin] = {}
    tables = Counter(resource.table for resource in resources)
    for resource in resources:
        if tables[resource.table] > 1:
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
    yield from ((spec.name, spec.origin) for spec in index_specs(resource))
    yield constraint(resource.table, [], "pkey"), resource.origin
    if resource.tenant_scoped:
        yield constraint(resource.table, ["tenant_id", "id"], "key"), resource.origin


def _indexes(resource: Resource) -> Iterator[PartView]:
    live = " WHERE deleted_at IS NULL" if resource.soft_delete else ""
    for spec in index_specs(resource):
        keys = ", ".join(quoted(key) for key in spec.keys)
        kind = "UNIQUE INDEX" if spec.unique else "INDEX"
        where = live if spec.live else ""
        text = f"CREATE {kind} {quoted(spec.name)} ON {resource.sql_table} ({keys}){where};"
        yield PartView(text, spec.of)


def index_specs(resource: Resource) -> Iterator[IndexSpec]:
    """Give the indexes and unique keys of a table, but for its primary key."""

    def spec(
        names: list[str], suffix: str, keys: list[str], of: Field | Relation | Together | Resource
    ) -> IndexSpec:
        return IndexSpec(
            name=constraint(resource.table, names, suffix),
            keys=tuple(keys),
            unique=suffix == "key",
            live=True,
            of=of,
        )

    tenant = ["tenant_id"] if resource.tenant_scoped else []
    for field in resource.fields:
        if field.unique:
            yield spec([field.name], "key", [*tenant, field.name], field)
    for together in resource.uniques:
        names = resource.attributes(together)
        yield spec(names, "key", [*tenant, *names], together)
    for field in resource.fields:
        if field.sortable:
            yield spec([*tenant, field.name], "idx", [*tenant, field.name, "id"], field)
    if resource.timestamps:
        yield spec([*tenant, "created_at"], "idx", [*tenant, "created_at", "id"], resource)
    for relation in resource.relations:
        # Of every row: what Postgres looks for when the row that is referred to goes.
        yield evolve(spec([relation.attribute], "idx", [relation.attribute], relation), live=False)
    for together in resource.indexes:
        names = [*tenant, *resource.attributes(together)]
        yield spec(names, "idx", names, together)


def _references(resource: Resource, ir: IR) -> Iterator[PartView]:
    for relation in resource.relations:
        target = ir.resource(relation.target)
        both = resource.tenant_scoped and target.tenant_scoped
        own = f"tenant_id, {relation.column}" if both else relation.column
        theirs = "tenant_id, id" if both else "id"
        yield PartView(
            f"ALTER TABLE {resource.sql_table} ADD CONSTRAINT "
            f"{_name(resource, [relation.attribute], 'fkey')}\n"
            f"    FOREIGN KEY ({own}) REFERENCES {target.sql_table} ({theirs})"
            f"{_on_delete(relation)};",
            relation,
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
