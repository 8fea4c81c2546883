"""The view of a resource's actions, and the slots that other plugins may fill there."""

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from forgecore.data.models import article
from forgecore.data.naming import Locals, Names
from forgecore.data.sql import columns, key_condition, live_constant, live_reference, value, wrapped
from forgecore.names import constraint
from forgecore.plugin import (
    IR,
    Field,
    GeneratedFile,
    Import,
    Relation,
    Resource,
    Slot,
    Together,
    plural,
    quoted,
    words,
)

MODULE: Final = Slot(
    name="actions.module",
    language="python",
    names=("resource",),
    doc="Top-level definitions above the actions class.",
)
CTES: Final = tuple(
    Slot(
        name=f"actions.{method}.ctes",
        language="sql",
        names=("resource", "arm"),
        doc=f"Arms of the one statement of {method}: `new` holds the rows as written, {old}.",
    )
    for method, old in (
        ("create", "and there is no `old`"),
        ("update", "`old` as they were; restore fills it too"),
        ("delete", "or deleted, `old` as they were"),
    )
)
DECORATORS: Final = Slot(
    name="actions.method.decorators",
    language="python-decorator",
    names=("resource", "method", "is_async"),
    doc="Decorators of each public method; they return the callable that they got, by type.",
)
SLOTS: Final = (MODULE, *CTES, DECORATORS)

_RUNTIME: Final = (
    "Actions",
    "ActionsBase",
    "AsyncActions",
    "Check",
    "Condition",
    "Constraints",
    "Order",
    "Page",
    "Params",
    "Updatable",
    "given",
    "list_query",
    "partial",
    "uuid7",
)


@frozen
class Flavour:
    """What differs between the two classes."""

    prefix: str
    async_: str
    await_: str

    @property
    def is_async(self) -> bool:
        """Whether the methods are coroutines."""
        return bool(self.async_)


@frozen
class ConstraintView:
    """A constraint's name, and the fields that it guards as the text of a tuple."""

    name: str
    fields: str
    of: Field | Relation | Together


@frozen
class UpdatableView:
    """How an update assigns a field, and when the field counts as changed."""

    name: str
    assignment: str
    difference: str
    of: Field | Relation


@frozen
class LiveView:
    """A constant that holds the value of a reference, live or none."""

    name: str
    text: str
    of: Relation


@frozen(kw_only=True)
class ActionsView:
    """What actions.py.mako prints."""

    resource: Resource
    name: str
    id: str
    words: str
    a_words: str
    many: str
    methods: str
    of_tenant: str
    columns: str
    insert_columns: str
    insert_values: str
    table: str
    get_key: str
    key: str
    key_deleted: str
    touch: str
    constraints: tuple[ConstraintView, ...]
    updatable: tuple[UpdatableView, ...]
    live: tuple[LiveView, ...]
    referring: str
    given_create: str
    changes: str
    scope: str
    scope_values: str
    key_params: str
    soft: bool
    flavours: tuple[Flavour, ...]
    rt: Locals
    typing: Locals
    uuid: str


def actions_file(resource: Resource, ir: IR) -> GeneratedFile:
    """Make the file of a resource's actions."""
    own = [f"{resource.name}{suffix}" for suffix in ("", "Create", "Update", "Columns", "Actions")]
    names = Names([*own, f"Async{resource.name}Actions"])
    rt = Locals(names, "forgecore.runtime", _RUNTIME)
    typing = Locals(names, "typing", ("Final", "LiteralString"))
    uuid = names.bind(Import("uuid", "UUID"))
    package = f"{ir.package}.gen"
    for name in own[:4]:
        names.bind_own(Import(f"{package}.models.{resource.snake}", name))
    names.bind_own(Import(f"{package}.validation.{resource.snake}", "RULES"))
    jsonb = [field.name for field in resource.fields if field.kind.sql(field) == "jsonb"]
    if jsonb:
        names.bind(Import("forgecore.runtime", "with_jsonb"))
    every = [column.sql for column in columns(resource)]
    parameters = dict(_parameters(resource, ir))
    view = ActionsView(
        resource=resource,
        name=resource.name,
        id=f"{resource.snake}_id",
        words=resource.words,
        a_words=article(resource.words).lower(),
        methods="create, get, list, update, delete" + (", restore" if resource.soft_delete else ""),
        many=words(plural(resource.snake)),
        of_tenant=" of the current tenant" if resource.tenant_scoped else "",
        columns=wrapped(every, 4),
        insert_columns=wrapped([quoted(name) for name in parameters], 8),
        insert_values=wrapped(parameters.values(), 8),
        table=resource.sql_table,
        get_key=key_condition(resource, 4),
        key=key_condition(resource, 8),
        key_deleted=key_condition(resource, 8, deleted=True),
        touch=",\n        updated_at = now()" if resource.timestamps else "",
        constraints=tuple(_constraints(resource)),
        updatable=tuple(_updatable(resource, ir)),
        live=tuple(_live(resource, ir)),
        referring="\n    UNION ALL\n    ".join(_referring(resource, ir)),
        given_create=_with_jsonb("given(self._valid(data, self.validate_create))", jsonb),
        changes=_with_jsonb("changes", [n for n in jsonb if not _is_immutable(resource, n)]),
        scope=" AND ".join(
            [
                *(["tenant_id = %s"] if resource.tenant_scoped else []),
                *(["deleted_at IS NULL"] if resource.soft_delete else []),
            ]
        ),
        scope_values="(self._tenant(),)" if resource.tenant_scoped else "()",
        key_params=f'{{"id": {resource.snake}_id'
        + (', "tenant_id": self._tenant()}' if resource.tenant_scoped else "}"),
        soft=resource.soft_delete,
        flavours=(Flavour("", "", ""), Flavour("Async", "async ", "await ")),
        rt=rt,
        typing=typing,
        uuid=uuid,
    )
    return GeneratedFile(
        path=f"gen/actions/{resource.snake}.py",
        template="forgecore.data:templates/actions.py.mako",
        view=view,
        imports=names.imports,
        slots=SLOTS,
        resource=resource.name,
    )


def _with_jsonb(params: str, names: list[str]) -> str:
    return f"with_jsonb({params}, {tuple(names)})" if names else params


def _is_immutable(resource: Resource, name: str) -> bool:
    return any(field.name == name and field.immutable for field in resource.fields)


def _parameters(resource: Resource, ir: IR) -> Iterator[tuple[str, str]]:
    yield "id", "%(id)s"
    if resource.tenant_scoped:
        yield "tenant_id", "%(tenant_id)s"
    for field in resource.fields:
        yield field.name, value(field)
    for relation in resource.relations:
        text = live_reference(relation, ir.resource(relation.target))
        yield relation.attribute, text or f"%({relation.attribute})s"


def _reference(relation: Relation, ir: IR) -> str:
    if live_reference(relation, ir.resource(relation.target)) is None:
        return f"%({relation.attribute})s"
    return f"{{{live_constant(relation)}}}"


def _live(resource: Resource, ir: IR) -> Iterator[LiveView]:
    for relation in resource.relations:
        if text := live_reference(relation, ir.resource(relation.target)):
            yield LiveView(live_constant(relation), text, relation)


def _constraints(resource: Resource) -> Iterator[ConstraintView]:
    def named(attributes: list[str], kind: str, of: Field | Relation | Together) -> ConstraintView:
        fields = "(" + "".join(f'"{name}", ' for name in attributes) + ")"
        return ConstraintView(constraint(resource.table, attributes, kind), fields, of)

    for field in resource.fields:
        if field.unique:
            yield named([field.name], "key", field)
        if field.kind.check(field, field.column):
            yield named([field.name], "check", field)
    for together in resource.uniques:
        yield named(resource.attributes(together), "key", together)
    for relation in resource.relations:
        yield named([relation.attribute], "fkey", relation)


def _updatable(resource: Resource, ir: IR) -> Iterator[UpdatableView]:
    for field in resource.fields:
        if not field.immutable:
            given = value(field)
            yield UpdatableView(
                field.name,
                f"{field.column} = {given}",
                f"old.{field.column} IS DISTINCT FROM {given}",
                field,
            )
    for relation in resource.relations:
        yield UpdatableView(
            relation.attribute,
            f"{relation.column} = {_reference(relation, ir)}",
            f"old.{relation.column} IS DISTINCT FROM %({relation.attribute})s",
            relation,
        )


def _referring(resource: Resource, ir: IR) -> Iterator[str]:
    for child in ir.resources:
        for relation in child.relations:
            if relation.target == resource.name and relation.on_delete == "restrict":
                yield (
                    f"SELECT '{child.table}' AS name FROM old\n    WHERE EXISTS (\n"
                    f"        SELECT FROM {child.sql_table}\n"
                    f"        WHERE {_refers(child, relation, resource)}\n    )"
                )


def _refers(child: Resource, relation: Relation, parent: Resource) -> str:
    table = child.sql_table
    parts = [f"{table}.{relation.column} = old.id"]
    if child is parent:
        parts.append(f"{table}.id <> old.id")
    if child.soft_delete:
        parts.append(f"{table}.deleted_at IS NULL")
    return "\n            AND ".join(parts)
