"""Columns and conditions that the generated statements and the DDL are made of."""

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from forgecore.plugin import Field, Relation, Resource, quoted

NOWHERE: Final = "'00000000-0000-0000-0000-000000000000'"
"""An id that no record has: what a dead reference becomes, so that its foreign key refuses it."""

_WIDTH: Final = 84


@frozen
class Column:
    """A column of a table, in the order of the record's attributes."""

    name: str
    sql: str

    @classmethod
    def named(cls, name: str) -> "Column":
        """Make the column of an attribute."""
        return cls(name, quoted(name))


def columns(resource: Resource) -> list[Column]:
    """Return every column in the one order that records, statements and the DDL share."""
    names = ["id"]
    if resource.tenant_scoped:
        names.append("tenant_id")
    names += [field.name for field in resource.fields]
    names += [relation.attribute for relation in resource.relations]
    if resource.timestamps:
        names += ["created_at", "updated_at"]
    if resource.soft_delete:
        names.append("deleted_at")
    return [Column.named(name) for name in names]


def key_condition(resource: Resource, indent: int, *, deleted: bool = False) -> str:
    """Return the condition on one live (or deleted) row of the current tenant, a line each."""
    parts = ["id = %(id)s"]
    if resource.tenant_scoped:
        parts.append("tenant_id = %(tenant_id)s")
    if resource.soft_delete:
        parts.append("deleted_at IS NOT NULL" if deleted else "deleted_at IS NULL")
    return ("\n" + " " * indent + "AND ").join(parts)


def wrapped(parts: Iterable[str], indent: int) -> str:
    """Return a comma-separated list over as many lines as it needs, indented from the second on."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) + 3 > _WIDTH - indent:
            lines.append("")
        lines[-1] += f"{part}, "
    lines[-1] = lines[-1].removesuffix(", ")
    return ("\n" + " " * indent).join(line.rstrip() for line in lines)


def value(field: Field) -> str:
    """Return the parameter of a field; a list gets its type, since an empty one has none."""
    cast = f"::{field.kind.sql(field)}" if field.kind.name == "array" else ""
    return f"%({field.name})s{cast}"


def live_constant(relation: Relation) -> str:
    """Return the name of the constant that holds `live_reference`."""
    return f"LIVE_{relation.name.upper()}"


def live_reference(relation: Relation, target: Resource) -> str | None:
    """Return the value of a reference to a row that may be in the trash, judged as it is written.

    A foreign key accepts a row in the trash. So a reference to anything but a live row
    becomes an id that no row has, which the foreign key refuses. None where it judges alone.
    """
    if not target.soft_delete:
        return None
    parameter = f"%({relation.attribute})s"
    both = "\n                AND "
    tenant = f"{both}tenant_id = %(tenant_id)s" if target.tenant_scoped else ""
    text = (
        f"coalesce((\n            SELECT id FROM {target.sql_table}\n"
        f"            WHERE id = {parameter}{tenant}{both}deleted_at IS NULL\n"
        f"            FOR SHARE\n        ), {NOWHERE})"
    )
    if relation.required:
        return text
    return f"CASE WHEN {parameter}::uuid IS NOT NULL THEN {text} END"
