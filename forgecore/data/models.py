"""The view of a resource's models: record, inputs and columns."""

import json
from collections.abc import Iterator
from uuid import UUID

from attrs import frozen

from forgecore.data.literals import python_literal
from forgecore.data.naming import Locals, Names
from forgecore.names import string_literal
from forgecore.plugin import (
    Code,
    Field,
    GeneratedFile,
    Import,
    Relation,
    Resource,
    pascal,
)


@frozen
class Attribute:
    """An attribute of a class: its name, its type and its default, if it has one."""

    name: str
    type: str
    default: str | None = None
    of: Field | Relation | None = None

    @property
    def text(self) -> str:
        """The line of the class."""
        default = f" = {self.default}" if self.default is not None else ""
        return f"{self.name}: {self.type}{default}"


@frozen
class ColumnView:
    """A column that a list may use."""

    name: str
    text: str
    of: Field | Relation | None = None


@frozen(kw_only=True)
class ModelsView:
    """What models.py.mako prints."""

    name: str
    of_tenant: str
    a_words: str
    new_words: str
    aliases: tuple[Attribute, ...]
    record: tuple[Attribute, ...]
    create: tuple[Attribute, ...]
    update: tuple[Attribute, ...]
    columns: tuple[ColumnView, ...]
    frozen: str
    final: str


def models_file(resource: Resource) -> GeneratedFile:
    """Make the file of a resource's models."""
    attributes = [f.name for f in resource.fields] + [r.attribute for r in resource.relations]
    classes = [f"{resource.name}{suffix}" for suffix in ("", "Create", "Update", "Columns")]
    names = Names([*attributes, *classes])
    types = dict(_types(resource, names))
    aliases = tuple(
        Attribute(_alias(resource, field), names.use(field.kind.python(field)), of=field)
        for field in resource.fields
        if field.kind.alias
    )
    view = ModelsView(
        name=resource.name,
        of_tenant=f"{article(resource.words)} of one tenant"
        if resource.tenant_scoped
        else article(resource.words),
        a_words=article(resource.words).lower(),
        new_words=f"a new {resource.words}",
        aliases=aliases,
        record=tuple(_record(resource, names, types)),
        create=tuple(_create(resource, names, types)),
        update=tuple(_update(resource, names, types)),
        columns=tuple(_columns(resource, names, types)),
        frozen=names.bind(Import("attrs", "frozen")),
        final=names.bind(Import("typing", "Final")),
    )
    return GeneratedFile(
        path=f"gen/models/{resource.snake}.py",
        template="forgecore.data:templates/models.py.mako",
        view=view,
        imports=names.imports,
        resource=resource.name,
    )


def article(text: str) -> str:
    """Return `text` with its article: An order item."""
    return f"{'An' if text[:1] in 'aeiou' else 'A'} {text}"


def _alias(resource: Resource, field: Field) -> str:
    alias = resource.name + pascal(field.name)
    taken = {f"{resource.name}{suffix}" for suffix in ("Create", "Update", "Columns")}
    return f"{alias}Value" if alias in taken else alias


def _types(resource: Resource, names: Names) -> Iterator[tuple[str, str]]:
    for field in resource.fields:
        if field.kind.alias:
            yield field.name, _alias(resource, field)
        else:
            yield field.name, names.use(field.kind.python(field))
    for relation in resource.relations:
        yield relation.attribute, names.bind(Import("uuid", "UUID"))


def _or_none(text: str) -> str:
    return text if text.split("[", maxsplit=1)[0].rstrip("_") == "Json" else f"{text} | None"


def _record(resource: Resource, names: Names, types: dict[str, str]) -> Iterator[Attribute]:
    uuid = names.bind(Import("uuid", "UUID"))
    yield Attribute("id", uuid)
    if resource.tenant_scoped:
        yield Attribute("tenant_id", uuid)
    for field in resource.fields:
        kind = types[field.name]
        shown = _or_none(kind) if field.nullable else kind
        yield Attribute(field.name, shown, of=field)
    for relation in resource.relations:
        shown = uuid if relation.required else f"{uuid} | None"
        yield Attribute(relation.attribute, shown, of=relation)
    if resource.timestamps or resource.soft_delete:
        moment = names.bind(Import("datetime", "datetime"))
        if resource.timestamps:
            yield Attribute("created_at", moment)
            yield Attribute("updated_at", moment)
        if resource.soft_delete:
            yield Attribute("deleted_at", f"{moment} | None")


def _create(resource: Resource, names: Names, types: dict[str, str]) -> Iterator[Attribute]:
    for field in resource.fields:
        kind = types[field.name]
        if field.has_default:
            yield Attribute(field.name, kind, _default(field, names), field)
        elif field.required:
            yield Attribute(field.name, kind, of=field)
        else:
            yield Attribute(field.name, _or_none(kind), "None", field)
    for relation in resource.relations:
        uuid = types[relation.attribute]
        if relation.required:
            yield Attribute(relation.attribute, uuid, of=relation)
        else:
            yield Attribute(relation.attribute, f"{uuid} | None", "None", relation)


def _default(field: Field, names: Names) -> str:
    value = field.kind.value(field, field.default)
    if field.kind.sql(field) == "jsonb" and isinstance(value, list | dict):
        # A literal of nested lists and dicts has no type that both checkers take for Json.
        make, loads = names.bind(Import("attrs", "field")), names.bind(Import("json", "loads"))
        return f"{make}(factory=lambda: {loads}({string_literal(json.dumps(value))}))"
    code = python_literal(value)
    if isinstance(value, list | UUID):
        make = names.bind(Import("attrs", "field"))
        if value == []:
            return f"{make}(factory={names.use(field.kind.python(field))})"
        return f"{make}(factory=lambda: {names.use(code)})"
    return names.use(code)


def _update(resource: Resource, names: Names, types: dict[str, str]) -> Iterator[Attribute]:
    mutable = [field for field in resource.fields if not field.immutable]
    if mutable or resource.relations:
        rt = Locals(names, "forgecore.runtime", ("UNSET", "Unset"))
        for field in mutable:
            kind = f"{types[field.name]} | {rt.Unset}"
            yield Attribute(field.name, _or_none_last(kind, field.nullable), rt.UNSET, field)
        for relation in resource.relations:
            kind = f"{types[relation.attribute]} | {rt.Unset}"
            shown = _or_none_last(kind, not relation.required)
            yield Attribute(relation.attribute, shown, rt.UNSET, relation)


def _or_none_last(text: str, nullable: bool) -> str:
    is_json = text.split(" ", maxsplit=1)[0].rstrip("_") == "Json"
    return f"{text} | None" if nullable and not is_json else text


def _columns(resource: Resource, names: Names, types: dict[str, str]) -> Iterator[ColumnView]:
    def column(
        name: str, family: str, kind: str | None, of: Field | Relation | None = None
    ) -> ColumnView:
        local = names.bind(Import("forgecore.runtime", family))
        parts = [resource.name] if kind is None else [resource.name, kind]
        return ColumnView(name, f'{local}[{", ".join(parts)}]("{name}")', of)

    yield column("id", "SortedColumn", names.bind(Import("uuid", "UUID")))
    for field in resource.fields:
        family = {"equal": "Column", "range": "RangeColumn", "text": "TextColumn", "none": ""}[
            field.kind.column
        ]
        kind = None if field.kind.column == "text" else types[field.name]
        if field.sortable and field.filterable:
            yield column(field.name, f"Sorted{family}", kind, field)
        elif field.sortable:
            yield column(field.name, "SortColumn", None, field)
        elif field.filterable:
            yield column(field.name, family, kind, field)
    for relation in resource.relations:
        yield column(relation.attribute, "Column", types[relation.attribute], relation)
    if resource.timestamps:
        moment = names.use(Code("datetime", (Import("datetime", "datetime"),)))
        yield column("created_at", "SortedRangeColumn", moment)
        yield column("updated_at", "SortedRangeColumn", moment)
