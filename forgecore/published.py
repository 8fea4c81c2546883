"""The IR as JSON: what is promised to programs outside, by version."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast, get_args

import attrs

from forgecore.ir import IR, NO_DEFAULT, Field, OnDelete, Relation, Resource, Together

VERSION: Final = 1
"""It is raised when a key goes, or says something else; a new key does not raise it."""

_INNER: Final = frozenset({"unread", "kind", "items_kind", "origin", "plugin_options"})


def published(ir: IR, tables: Mapping[str, type]) -> dict[str, Any]:
    """Return the IR as JSON has it: decimals as text, durations in seconds.

    `tables` are the keys of a resource that plugins added, with the classes they become.
    """
    keys = {cls: key for key, cls in tables.items()}
    return {
        "version": VERSION,
        "name": ir.name,
        "package": ir.package,
        "resources": [_resource(resource, keys) for resource in ir.resources],
    }


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of what `published` gives."""
    resource: dict[str, Any] = {
        "name": _TEXT,
        "snake": _TEXT,
        "table": _TEXT,
        "fields": _list({"$ref": "#/$defs/field"}),
        "relations": _list({"$ref": "#/$defs/relation"}),
        "uniques": _list(_list(_TEXT)),
        "indexes": _list(_list(_TEXT)),
        "tenant_scoped": _FLAG,
        "soft_delete": _FLAG,
        "timestamps": _FLAG,
        "plugins": _ANY_OBJECT,
    }
    field: dict[str, Any] = {
        "name": _TEXT,
        "type": _TEXT,
        "sql": _TEXT,
        "required": _FLAG,
        "unique": _FLAG,
        "immutable": _FLAG,
        "sortable": _FLAG,
        "filterable": _FLAG,
        "has_default": _FLAG,
        "default": {},
        "min": {},
        "max": {},
        "min_length": _MAYBE_NUMBER,
        "max_length": _MAYBE_NUMBER,
        "precision": _MAYBE_NUMBER,
        "scale": _MAYBE_NUMBER,
        "pattern": _MAYBE_TEXT,
        "items": _MAYBE_TEXT,
        "values": _list(_TEXT),
        "plugins": _ANY_OBJECT,
    }
    relation: dict[str, Any] = {
        "name": _TEXT,
        "target": _TEXT,
        "attribute": _TEXT,
        "required": _FLAG,
        "on_delete": {"enum": list(get_args(OnDelete))},
    }
    whole: dict[str, Any] = {
        "version": {"const": VERSION},
        "name": _TEXT,
        "package": _TEXT,
        "resources": _list({"$ref": "#/$defs/resource"}),
    }
    parts = {"resource": resource, "field": field, "relation": relation}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"forgecore IR, version {VERSION}",
        **_object(whole),
        "$defs": {name: _object(properties) for name, properties in parts.items()},
    }


_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_MAYBE_NUMBER: Final = {"type": ["integer", "null"]}
_FLAG: Final = {"type": "boolean"}
_ANY_OBJECT: Final = {"type": "object"}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _resource(resource: Resource, keys: Mapping[type, str]) -> dict[str, Any]:
    return {
        **_own(resource),
        "fields": [_field(field) for field in resource.fields],
        "relations": [{**_own(one), "attribute": one.attribute} for one in resource.relations],
        "uniques": [list(one.fields) for one in resource.uniques],
        "indexes": [list(one.fields) for one in resource.indexes],
        "plugins": {
            keys.get(cls, cls.__name__): _plain(value)
            for cls, value in resource.plugin_options.items()
        },
    }


def _field(field: Field) -> dict[str, Any]:
    default = field.default if field.has_default else None
    return {
        **_own(field),
        "default": _plain(default),
        "has_default": field.has_default,
        "sql": field.kind.sql(field),
        "plugins": {
            key: value
            for options in field.plugin_options.values()
            for key, value in _plain(options).items()
        },
    }


def _own(thing: Resource | Field | Relation) -> dict[str, Any]:
    return {
        one.name: _plain(getattr(thing, one.name))
        for one in attrs.fields(type(thing))
        if one.name not in _INNER
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 -- whatever the schema and plugins hold
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return _plain(value.value)
        case str():
            return value
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case Together():
            return list(value.fields)
        case Mapping():
            pairs = cast("Mapping[object, object]", value)
            return {str(key): _plain(item) for key, item in pairs.items()}
        case list() | tuple() | set() | frozenset():
            items = [_plain(item) for item in cast("list[object]", value)]
            return sorted(items, key=str) if isinstance(value, set | frozenset) else items
        case _ if value is NO_DEFAULT:
            return None
        case _ if attrs.has(type(value)):
            cls = cast("Any", type(value))
            return {one.name: _plain(getattr(value, one.name)) for one in attrs.fields(cls)}
        case _:
            return str(value)
