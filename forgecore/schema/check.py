"""The core's rules of a schema: names, collisions, limits, relations."""

import importlib
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from attrs import evolve

from forgecore import names
from forgecore.diagnostics import Diagnostic
from forgecore.ir import Field, FieldType, FieldTypeError, Relation, Resource, Together
from forgecore.runtime.rules import Fault, Rule
from forgecore.source import Span

RESERVED: Final = frozenset({"id", "tenant_id", "created_at", "updated_at", "deleted_at", "self"})
"""Names that the generated code or the tables keep for themselves."""

_STATEMENTS: Final = frozenset({"new", "old", "record", "referring"})
"""What the parts of a statement are called: a table of that name would be hidden."""

_CONSTANTS: Final = frozenset(
    {"CONSTRAINTS", "CREATE", "DELETE", "GET", "NEWEST", "RESTORE", "RULES", "SELECT", "UPDATABLE"}
    | {"UPDATE"}
)
"""Constants of the generated modules: a class of that name would be hidden."""

_LIMITS: Final = (
    "min",
    "max",
    "min_length",
    "max_length",
    "pattern",
    "precision",
    "scale",
    "values",
    "items",
)
_NEEDED: Final = ("precision", "scale", "items")
_MOST_DIGITS: Final = 1000


def check_each(
    resource: Resource, by_name: Mapping[str, Resource], *, complete: bool
) -> Iterator[Diagnostic]:
    """Report what is wrong with a resource, and with what it refers to.

    `complete`: every file could be read; otherwise a missing resource may stand in one of them.
    """
    yield from _resource_names(resource)
    yield from _attribute_names(resource)
    for field in resource.fields:
        yield from _guarded_field(field)
    for relation in resource.relations:
        if relation.target in by_name:
            yield from _relation(resource, relation, by_name[relation.target])
        elif complete:
            text = f"there is no resource `{relation.target}`"
            near = names.near(relation.target, by_name)
            span = relation.origin.span("belongs_to")
            yield Diagnostic("unknown-resource", span, text, near)
    for together in (*resource.uniques, *resource.indexes):
        yield from _together(resource, together)


def check_together(resources: Iterable[Resource]) -> Iterator[Diagnostic]:
    """Report names, modules and tables that two resources would share."""
    spellings: tuple[tuple[str, str, Callable[[Resource], str]], ...] = (
        ("name", "two resources are called", lambda r: r.name),
        ("name", "two resources become the module", lambda r: r.snake),
        ("table", "two resources have the table", lambda r: r.table),
    )
    told: set[tuple[int, int]] = set()
    for key, text, spelling in spellings:
        first: dict[str, Resource] = {}
        for resource in resources:
            if ("resource", key) in resource.unread:
                continue
            other = first.setdefault(spelling(resource), resource)
            if other is resource or (id(other), id(resource)) in told:
                continue
            told.add((id(other), id(resource)))
            code = "duplicate" if spelling is spellings[0][2] else "name-collision"
            also = ((other.origin.span(key), "the other one"),)
            span = resource.origin.span(key)
            yield Diagnostic(code, span, f"{text} `{spelling(resource)}`", also=also)


def _resource_names(resource: Resource) -> Iterator[Diagnostic]:
    span = resource.origin.span("name")
    if fault := names.fault_of_pascal(resource.name):
        yield Diagnostic("bad-name", span, f"the resource's name `{resource.name}` {fault}")
    elif resource.name in _CONSTANTS:
        yield Diagnostic("bad-name", span, f"the resource's name `{resource.name}` is reserved")
    elif keyword.iskeyword(resource.snake):
        text = f"`{resource.name}` would be the module `{resource.snake}`, a Python keyword"
        yield Diagnostic("bad-name", span, text)
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", resource.table):
        text = f"the table `{resource.table}` is not in snake_case"
        yield Diagnostic("bad-name", resource.origin.span("table"), text)
    elif resource.table in _STATEMENTS:
        text = f"the table name `{resource.table}` is reserved"
        yield Diagnostic("bad-name", resource.origin.span("table"), text)
    elif len(resource.table.encode()) > names.LONGEST:
        text = f"the table `{resource.table}` is longer than {names.LONGEST} bytes"
        yield Diagnostic("bad-name", resource.origin.span("table"), text)


def _attribute_names(resource: Resource) -> Iterator[Diagnostic]:
    spans: dict[str, tuple[str, Span]] = {}
    pairs = [
        *((field.name, field.name, field.origin.span()) for field in resource.fields),
        *((r.name, r.attribute, r.origin.span()) for r in resource.relations),
    ]
    for name, attribute, span in pairs:
        if fault := names.fault_of_snake(name) or (
            "is too long for its column" if len(attribute) > names.LONGEST else None
        ):
            yield Diagnostic("bad-name", span, f"the name `{name}` {fault}")
        elif attribute in RESERVED:
            yield Diagnostic("bad-name", span, f"the name `{attribute}` is reserved")
        for spelling in dict.fromkeys((attribute, names.pascal(attribute), name)):
            other, place = spans.setdefault(spelling, (name, span))
            if place is not span:
                text = f"`{name}` and `{other}` both become `{spelling}`"
                also = ((place, f"`{other}`"),)
                yield Diagnostic("name-collision", span, text, also=also)
                break


def _guarded_field(field: Field) -> Iterator[Diagnostic]:
    try:
        yield from _field(field)
    except FieldTypeError as error:
        yield Diagnostic("plugin-failed", field.origin.span("type"), str(error))


def _field(field: Field) -> Iterator[Diagnostic]:
    keys = field.kind.keys | (field.items_kind.keys if field.items_kind else frozenset())
    foreign = [k for k in _LIMITS if getattr(field, k) not in (None, ()) and k not in keys]
    for key in foreign:
        text = f"`{key}` says nothing for a field of type {field.type}"
        yield Diagnostic("not-applicable", field.origin.key_span(key), text)
    if field.items_kind is not None and not field.items_kind.element:
        text = f"an array cannot have items of type {field.items}"
        yield Diagnostic("bad-value", field.origin.span("items"), text)
        return
    incomplete = list(_incomplete(field, keys))
    yield from incomplete
    if incomplete or foreign or field.unread & {*_NEEDED, "values"}:
        return
    bad_limits = list(_bad_limits(field))
    yield from bad_limits
    for key, allowed in (
        ("sortable", field.kind.column != "none"),
        ("filterable", field.kind.column != "none"),
    ):
        if getattr(field, key) and not allowed:
            text = f"a field of type {field.type} cannot be {key}"
            yield Diagnostic("not-applicable", field.origin.key_span(key), text)
    nullable = field.nullable and "required" not in field.unread
    if field.sortable and nullable and field.kind.column != "none":
        text = f"`{field.name}` may be null, and nulls cannot be paged: make it required"
        yield Diagnostic("not-applicable", field.origin.key_span("sortable"), text)
    if field.has_default and not bad_limits:
        yield from _default(field)


def _incomplete(field: Field, keys: frozenset[str]) -> Iterator[Diagnostic]:
    for key in _NEEDED:
        if key in keys and getattr(field, key) is None and key not in field.unread:
            text = f"`{field.name}` of type {field.type} needs `{key}`"
            yield Diagnostic("missing-key", field.origin.key_span("type"), text)
    if "values" in keys and not field.values and "values" not in field.unread:
        text = f"`{field.name}` of type {field.type} needs `values`"
        yield Diagnostic("missing-key", field.origin.key_span("type"), text)


def _bad_limits(field: Field) -> Iterator[Diagnostic]:
    def wrong(code: str, key: str, text: str) -> Diagnostic:
        return Diagnostic(code, field.origin.span(key), text)

    kind = field.items_kind or field.kind
    limits: dict[str, Any] = {}
    for key in ("min", "max"):
        if (value := getattr(field, key)) is not None:
            try:
                bound = kind.value(field, value)
            except ValueError as error:
                yield wrong("bad-value", key, f"`{key}` {error}")
                continue
            # A bound must be a value of the type itself.
            free = evolve(field, min=None, max=None)
            if (fault := _judged(kind, free, bound)) is not None:
                yield wrong("bad-value", key, f"`{key}` {fault[1]}")
            else:
                limits[key] = bound
    if len(limits) > 1 and _above(kind, limits["min"], limits["max"]):
        yield wrong("bad-range", "min", "`min` is above `max`")
    lengths = [n for n in (field.min_length, field.max_length) if n is not None]
    for key in ("min_length", "max_length"):
        if (length := getattr(field, key)) is not None and length < 0:
            yield wrong("bad-value", key, f"`{key}` must not be negative")
    if len(lengths) > 1 and lengths[0] > lengths[1]:
        yield wrong("bad-range", "min_length", "`min_length` is above `max_length`")
    if field.pattern is not None:
        try:
            re.compile(field.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            yield wrong("bad-value", "pattern", f"`pattern` is no regular expression: {error}")
    if field.precision is not None and field.scale is not None:
        if not 1 <= field.precision <= _MOST_DIGITS:
            yield wrong("bad-value", "precision", f"`precision` must be 1 to {_MOST_DIGITS}")
        elif not 0 <= field.scale <= field.precision:
            yield wrong("bad-range", "scale", "`scale` must be 0 to `precision`")
    if repeated := {value for value in field.values if field.values.count(value) > 1}:
        yield wrong("duplicate", "values", f"`{min(repeated)}` stands twice in `values`")
    unstorable = re.compile("[\x00\ud800-\udfff]")
    if any(unstorable.search(value) or not value for value in field.values):
        yield wrong("bad-value", "values", "a value is empty, or has a character of no text")


def _above(kind: FieldType, low: Any, high: Any) -> bool:  # noqa: ANN401 -- values of any type
    try:
        return bool(low > high)
    except TypeError as error:
        raise FieldTypeError(f"{kind.owner}: its values have no order: {error}") from error


def _default(field: Field) -> Iterator[Diagnostic]:
    span = field.origin.span("default")
    try:
        value = field.kind.value(field, field.default)
    except ValueError as error:
        yield Diagnostic("bad-default", span, f"the default of `{field.name}` {error}")
        return
    # The rule that will judge values at run time judges the default as well.
    if (fault := _judged(field.kind, field, value)) is not None:
        near = names.near(value, field.values) if isinstance(value, str) else None
        yield Diagnostic("bad-default", span, f"the default of `{field.name}` {fault[1]}", near)


def _judged(kind: FieldType, field: Field, value: object) -> Fault | None:
    """Return what the rule that the generated code will have says of a value."""
    code = kind.rule(field)
    scope: dict[str, object] = {}
    try:
        for one in code.imports:
            module = importlib.import_module(one.module)
            bound = one.alias or one.name or one.module
            scope[bound] = getattr(module, one.name) if one.name else module
        rule: Rule = eval(code.text, scope)  # noqa: S307 -- text of our own, or of a plugin
        return rule(value)
    except Exception as error:
        raise FieldTypeError(f"{kind.owner}: its rule raised {error!r}") from error


def _relation(resource: Resource, relation: Relation, target: Resource) -> Iterator[Diagnostic]:
    if relation.required and relation.on_delete == "set_null":
        text = f"`{relation.name}` is required, so it cannot become null"
        yield Diagnostic("bad-relation", relation.origin.span("on_delete"), text)
    scoped = resource.tenant_scoped or ("resource", "tenant_scoped") in resource.unread
    if target.tenant_scoped and not scoped:
        text = (
            f"{resource.name} has no tenant and cannot refer to {target.name}, which belongs to one"
        )
        yield Diagnostic("bad-relation", relation.origin.span("belongs_to"), text)
    if relation.on_delete == "cascade" and resource.soft_delete:
        text = (
            f"{resource.name} is deleted softly, and a cascade would delete it for good: "
            "use restrict or set_null"
        )
        yield Diagnostic("bad-relation", relation.origin.span("on_delete"), text)


def _together(resource: Resource, together: Together) -> Iterator[Diagnostic]:
    known = [*(f.name for f in resource.fields), *(r.name for r in resource.relations)]
    span = together.origin.span("fields")
    if not together.fields:
        yield Diagnostic("bad-value", span, "`fields` is empty")
    unread = {
        name
        for table, *rest in resource.unread
        for name in rest[:1]
        if table in {"fields", "relations"}
    }
    whole = not {("fields",), ("relations",)} & resource.unread
    for name in together.fields:
        if whole and name not in {*known, *unread}:
            text = f"{resource.name} has no field or relation `{name}`"
            yield Diagnostic("unknown-field", span, text, names.near(name, known))
    if len(set(together.fields)) < len(together.fields):
        yield Diagnostic("duplicate", span, "a name stands twice in `fields`")
