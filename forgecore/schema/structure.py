"""Documents -> Config and IR, the plugins' sections, tables and keys included."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import attrs
from attrs import evolve, fields, frozen

from forgecore import names
from forgecore.config import CORE_SECTIONS, Config, structure_section
from forgecore.diagnostics import Diagnostic
from forgecore.ir import (
    IR,
    NO_DEFAULT,
    Field,
    FieldType,
    OnDelete,
    Origins,
    Relation,
    Resource,
    Together,
)
from forgecore.memory import Memory
from forgecore.plugin.extensions import Extensions
from forgecore.runtime.settings import ProjectSettings, snake_name
from forgecore.schema.convert import DROPPED, Fault, convert
from forgecore.schema.load import Documents
from forgecore.source import Document, KeyPath, Origin

PACKAGES: Final[Mapping[str, str]] = {
    "hooks": "forgecore-jobs",
    "jobs": "forgecore-jobs",
    "scaffold": "forgecore-scaffold",
    "otel": "forgecore-otel",
}
"""Which package brings a section or table: a hint in messages, nothing else rests on it."""

OWN_TABLES: Final = ("resource", "fields", "relations", "unique", "index")
"""The core's tables of a resource."""


@frozen(kw_only=True)
class ResourceTable:
    """[resource]: a table of the database, and a set of actions."""

    name: str
    table: str | None = None
    tenant_scoped: bool = False
    soft_delete: bool = False
    timestamps: bool = False


@frozen(kw_only=True)
class FieldTable:
    """A field of a resource; its type says which limits it may have."""

    type: str
    required: bool = False
    unique: bool = False
    immutable: bool = False
    default: Any = NO_DEFAULT
    sortable: bool = False
    filterable: bool = False
    min: Any = None
    max: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    precision: int | None = None
    scale: int | None = None
    values: tuple[str, ...] = ()
    items: str | None = None


OWN_KEYS: Final = tuple(attribute.name for attribute in fields(FieldTable))
"""The core's keys of a field."""


@frozen(kw_only=True)
class RelationTable:
    """A reference to another resource."""

    belongs_to: str
    required: bool = False
    on_delete: OnDelete = "restrict"


@frozen(kw_only=True)
class TogetherTable:
    """Fields and relations that are unique, or indexed, together."""

    fields: tuple[str, ...]


def structure_config(
    document: Document | None, extensions: Mapping[str, type], *, complete: bool
) -> tuple[Config, list[Diagnostic]]:
    """Return the sections of forge.toml as far as they are sound.

    `complete`: every plugin is open. Otherwise an unknown section may be a missing plugin's.
    """
    sections = {**CORE_SECTIONS, **extensions}
    diagnostics = [
        _unknown(document, section, sections, "section")
        for section in (document.data if document and complete else ())
        if document and section not in sections
    ]
    structured: dict[type, object] = {}
    unread: set[type] = set()
    for section, cls in sections.items():
        value, faults = structure_section(document, section, cls)
        diagnostics += faults
        if value is not None:
            structured[cls] = value
        if faults or document is None:
            unread.add(cls)
    names = {cls: section for section, cls in sections.items()}
    return Config(structured, frozenset(unread), document, names), diagnostics


def plugin_names(document: Document | None) -> tuple[tuple[str, ...] | None, bool]:
    """Return what [project] plugins names (None: it says nothing), and whether it can be read.

    It is needed before the rest of the file is judged: what that may say depends on it.
    """
    project = document.data.get("project", {}) if document else None
    if not isinstance(project, Mapping):
        return (), False
    if "plugins" not in project:
        return None, True
    named = cast("Mapping[str, object]", project)["plugins"]
    items = cast("list[object]", named) if isinstance(named, list) else [None]
    names = tuple(name for name in items if isinstance(name, str))
    return names, len(names) == len(items)


def project_names(project: Path, settings: ProjectSettings) -> tuple[str, str]:
    """Return the project's name and package: the folder's name where forge.toml says none."""
    name = settings.name or snake_name(project.name)
    return name, settings.package or name


def structure_ir(
    documents: Documents, name: str, package: str, extensions: Extensions, memory: Memory
) -> tuple[IR, Origins, list[Diagnostic]]:
    """Return the IR of the schema, as far as it is sound.

    A resource, field or relation without what it must have is left out, and stands in `unread`
    of what is around it.
    """
    builder = _Builder(extensions)
    resources: list[Resource | None] = []
    for document in documents.resources:
        if (known := memory.resource(document, extensions.types)) is not None:
            resource, written = known
            for value, path in written:
                builder.origins[id(value)] = (value, Origin(resource.origin.document, path))
            resources.append(resource)
            continue
        before, faults = len(builder.origins), len(builder.diagnostics)
        made = builder.resource(document)
        resources.append(made)
        if made is not None and len(builder.diagnostics) == faults:
            new = list(builder.origins.values())[before:]
            memory.keep_resource(document, made, [(value, at.path) for value, at in new])
    found = sorted((r for r in resources if r is not None), key=lambda r: r.name)
    ir = IR(name=name, package=package, resources=tuple(found))
    return ir, Origins(builder.origins), builder.diagnostics


class _Builder:
    def __init__(self, extensions: Extensions) -> None:
        self._extensions = extensions
        self.diagnostics: list[Diagnostic] = []
        self.origins: dict[int, tuple[object, Origin]] = {}
        self._unread: set[KeyPath] = set()

    def resource(self, document: Document) -> Resource | None:
        self._unread = set()
        known = (*OWN_TABLES, *self._extensions.tables)
        for key in document.data:
            if key not in known and self._extensions.complete:
                self.diagnostics.append(_unknown(document, key, known, "table"))
        if "resource" not in document.data:
            span = document.key_span(())
            self.diagnostics.append(Diagnostic("missing-key", span, "[resource] is missing"))
            head = None
        else:
            head = self._one(document, ("resource",), ResourceTable)
        field_list = [self._field(document, key) for key in self._keys(document, "fields")]
        relations = [self._relation(document, key) for key in self._keys(document, "relations")]
        uniques = self._together(document, "unique")
        indexes = self._together(document, "index")
        options: dict[Any, object] = {}
        for key, cls in self._extensions.tables.items():
            if key in document.data and (value := self._one(document, (key,), cls)) is not None:
                options[cls] = value
        if head is None:
            return None
        snake = names.snake(head.name)
        return Resource(
            name=head.name,
            snake=snake,
            table=head.table if head.table is not None else names.plural(snake),
            fields=tuple(one for one in field_list if one is not None),
            relations=tuple(one for one in relations if one is not None),
            uniques=uniques,
            indexes=indexes,
            tenant_scoped=head.tenant_scoped,
            soft_delete=head.soft_delete,
            timestamps=head.timestamps,
            unread=frozenset(self._unread),
            origin=Origin(document, ("resource",)),
            plugin_options=options,
        )

    def _field(self, document: Document, name: str) -> Field | None:
        path: KeyPath = ("fields", name)
        table = document.data["fields"][name]
        if not isinstance(table, Mapping):
            self._say(document, Fault(path, "wrong-type", f"`{name}` must be a table"), ())
            return None
        table = cast("Mapping[str, object]", table)
        options: dict[Any, object] = {}
        claimed: set[str] = set()
        for cls in self._extensions.keys:
            keys = {attribute.name for attribute in _attributes(cls)}
            claimed |= keys
            part = {key: table[key] for key in keys & table.keys()}
            if part and (value := self._structured(document, path, cls, part)) is not None:
                options[cls] = value
        own = {key: value for key, value in table.items() if key not in claimed}
        head = self._structured(document, path, FieldTable, own, claimed)
        if head is None:
            if isinstance(word := own.get("type"), str):
                self._type(document, (*path, "type"), word)
            self._unread.add(path)
            return None
        kind = self._type(document, (*path, "type"), head.type)
        items = (
            self._type(document, (*path, "items"), head.items) if head.items is not None else None
        )
        if kind is None or (head.items is not None and items is None):
            self._unread.add(path)
            return None
        values = {key: getattr(head, key) for key in OWN_KEYS}
        return Field(
            name=name,
            kind=kind,
            items_kind=items,
            unread=frozenset(str(one[2]) for one in self._unread if one[:2] == path and one[2:]),
            origin=Origin(document, path),
            plugin_options=options,
            **values,
        )

    def _type(self, document: Document, path: KeyPath, word: str) -> FieldType | None:
        types = self._extensions.types
        if word not in types and self._extensions.complete:
            text = f"there is no field type `{word}`"
            near = names.near(word, types)
            span = document.value_span(path)
            self.diagnostics.append(Diagnostic("unknown-type", span, text, near))
        return types.get(word)

    def _relation(self, document: Document, name: str) -> Relation | None:
        path: KeyPath = ("relations", name)
        if (head := self._one(document, path, RelationTable)) is None:
            return None
        return Relation(
            name=name,
            target=head.belongs_to,
            required=head.required,
            on_delete=head.on_delete,
            origin=Origin(document, path),
        )

    def _together(self, document: Document, key: str) -> tuple[Together, ...]:
        rows = document.data.get(key, [])
        if not isinstance(rows, list):
            text = f"`{key}` must be written [[{key}]]"
            self._say(document, Fault((key,), "wrong-type", text), ())
            return ()
        found = [
            (index, self._one(document, (key, index), TogetherTable))
            for index in range(len(cast("list[object]", rows)))
        ]
        return tuple(
            Together(fields=head.fields, origin=Origin(document, (key, index)))
            for index, head in found
            if head is not None
        )

    def _keys(self, document: Document, table: str) -> Iterable[str]:
        value = document.data.get(table, {})
        if not isinstance(value, Mapping):
            self._say(document, Fault((table,), "wrong-type", f"[{table}] must be a table"), ())
            return ()
        return list(cast("Mapping[str, object]", value))

    def _one(self, document: Document, path: KeyPath, cls: type[Any]) -> Any:  # noqa: ANN401
        table: Any = document.data
        for key in path:
            table = table[key]
        return self._structured(document, path, cls, table)

    def _structured(
        self,
        document: Document,
        path: KeyPath,
        cls: type[Any],
        table: Any,  # noqa: ANN401
        claimed: Iterable[str] = (),
    ) -> Any:  # noqa: ANN401
        made = convert(cls, table)
        for fault in made.faults:
            self._say(document, evolve(fault, path=(*path, *fault.path)), claimed, cls)
        if made.value is not None:
            self._remember(made.value, made.table, Origin(document, path))
        return made.value

    def _remember(self, value: object, table: object, origin: Origin) -> None:
        if not attrs.has(type(value)) or not isinstance(table, Mapping):
            return
        self.origins[id(value)] = (value, origin)
        for attribute in _attributes(type(value)):
            inner = getattr(value, attribute.name)
            written = cast("Mapping[str, object]", table).get(attribute.name)
            path = (*origin.path, attribute.name)
            if isinstance(inner, tuple) and isinstance(written, list):
                rows = enumerate(cast("list[object]", written))
                kept = [(index, row) for index, row in rows if row is not DROPPED]
                for item, (index, row) in zip(inner, kept, strict=True):
                    self._remember(item, row, Origin(origin.document, (*path, index)))
            else:
                self._remember(inner, written, Origin(origin.document, path))

    def _say(
        self,
        document: Document,
        fault: Fault,
        claimed: Iterable[str],
        cls: type | None = None,
    ) -> None:
        if fault.code == "unknown-key":
            if fault.path[0] == "fields" and not self._extensions.complete:
                return
            known = _known_keys(cls, fault.path) if cls else []
            near = names.near(str(fault.path[-1]), [*known, *claimed])
            span = document.key_span(fault.path)
            self.diagnostics.append(Diagnostic("unknown-key", span, fault.text, near))
            if near:
                # A misspelt key is not missing as well.
                self._unread.add((*fault.path[:-1], near))
            return
        self._unread.add(fault.path)
        if fault.code == "missing-key":
            self.diagnostics.append(
                Diagnostic("missing-key", document.key_span(fault.path), fault.text)
            )
        else:
            name = next((part for part in reversed(fault.path) if isinstance(part, str)), "")
            text = fault.text if fault.text.startswith(("`", "[")) else f"`{name}` {fault.text}"
            span = document.value_span(fault.path)
            self.diagnostics.append(Diagnostic(fault.code, span, text))


def _known_keys(cls: type, path: KeyPath) -> list[str]:
    """Return the keys that the innermost class on the way to `path` has."""
    found = [attribute.name for attribute in _attributes(cls)]
    for part in path:
        if not isinstance(part, str):
            continue
        for attribute in _attributes(cls):
            inner = _inner_class(attribute.type)
            if attribute.name == part and inner is not None:
                cls = inner
                found = [one.name for one in _attributes(cls)]
    return found


def _inner_class(hint: Any) -> type | None:  # noqa: ANN401
    if isinstance(hint, type) and attrs.has(hint):
        return hint
    return next(
        (inner for arg in getattr(hint, "__args__", ()) if (inner := _inner_class(arg))), None
    )


def _attributes(cls: type) -> tuple["attrs.Attribute[Any]", ...]:
    return cast("tuple[attrs.Attribute[Any], ...]", fields(cast("Any", cls)))


def _unknown(document: Document, key: str, known: Iterable[str], what: str) -> Diagnostic:
    span = document.key_span((key,))
    if package := PACKAGES.get(key):
        text = f"[{key}] belongs to {package}: install it and name it in [project] plugins"
        return Diagnostic("unknown-section", span, text)
    text = f"there is no {what} [{key}]"
    return Diagnostic("unknown-section", span, text, names.near(key, known))
