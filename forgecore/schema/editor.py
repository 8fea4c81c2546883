"""JSON Schemas of the user's TOML files, plugins' sections, tables and keys included.

Editors complete and check by them. They take whatever a build takes, and refuse unknown keys.
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from forgecore.plugin.extensions import Extensions
from forgecore.schema.structure import FieldTable, RelationTable, ResourceTable, TogetherTable

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: Final[Mapping[object, dict[str, Any]]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Decimal: {"type": "number"},
    timedelta: {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?(ms|s|m|h|d)\s*$"},
}


def resource_schema(extensions: Extensions) -> dict[str, Any]:
    """Return the JSON Schema of a file of schema/."""
    field = _table(FieldTable)
    field["properties"]["type"] = {"enum": sorted(extensions.types)}
    field["properties"]["items"] = {"enum": sorted(extensions.types)}
    for cls in extensions.keys:
        field["properties"] |= _table(cls)["properties"]
    tables = {
        "resource": _table(ResourceTable),
        "fields": {"type": "object", "additionalProperties": field},
        "relations": {"type": "object", "additionalProperties": _table(RelationTable)},
        "unique": {"type": "array", "items": _table(TogetherTable)},
        "index": {"type": "array", "items": _table(TogetherTable)},
    }
    tables |= {key: _table(cls) for key, cls in extensions.tables.items()}
    return {
        "$schema": _DRAFT,
        "title": "A resource",
        "type": "object",
        "properties": tables,
        "required": ["resource"],
        "additionalProperties": False,
    }


def config_schema(sections: Mapping[str, type]) -> dict[str, Any]:
    """Return the JSON Schema of forge.toml."""
    return {
        "$schema": _DRAFT,
        "title": "forge.toml",
        "type": "object",
        "properties": {name: _table(cls) for name, cls in sections.items()},
        "additionalProperties": False,
    }


def _table(cls: type, around: tuple[type, ...] = ()) -> dict[str, Any]:
    if cls in around:
        # A class within itself: what is so deep is left to the build.
        return {"type": "object"}
    hints = get_type_hints(cls)
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)
    table: dict[str, Any] = {
        "type": "object",
        "properties": {one.name: _value(hints[one.name], (*around, cls)) for one in fields},
        "additionalProperties": False,
    }
    if needed := [one.name for one in fields if one.default is attrs.NOTHING]:
        table["required"] = needed
    if cls.__doc__ and not cls.__name__.startswith("_"):
        table["description"] = cls.__doc__.partition("\n")[0]
    return table


def _value(hint: Any, around: tuple[type, ...]) -> dict[str, Any]:  # noqa: ANN401 -- an annotation
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if isinstance(hint, type) and attrs.has(hint):
        return _table(hint, around)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in {Union, UnionType}:
        found = [_value(one, around) for one in arguments if one is not type(None)]
        return found[0] if len(found) == 1 else {"anyOf": found}
    if origin in {tuple, list}:
        return {"type": "array", "items": _value(arguments[0], around)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _value(arguments[1], around)}
    return {}
