"""Plain: Python's values in the form that JSON has for them."""

import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, cast
from uuid import UUID

import attrs

LARGEST: Final = 1 << 20
"""Bytes of a job's arguments, or output, as JSON. More belongs into a table or a bucket."""


@lru_cache(maxsize=1024)
def keys_of(cls: type[Any]) -> tuple[tuple[str, str], ...]:
    """Return the names of a class's fields, and what they are in JSON."""
    return tuple((one.name, f"{json.dumps(one.name)}:") for one in attrs.fields(cls) if one.init)


def plain(value: object) -> object:
    """Return what JSON has for a value; TypeError says what has no form there."""
    match value:
        case None | bool() | int() | float() | str():
            return value.value if isinstance(value, Enum) else value
        case UUID() | Decimal():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Enum():
            return plain(value.value)
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in cast("list[object]", value)]
        case Mapping():
            pairs = cast("Mapping[object, object]", value)
            if not all(isinstance(key, str) for key in pairs):
                raise TypeError("has a key that is no text")
            return {str(key): plain(item) for key, item in pairs.items()}
        case _ if attrs.has(type(value)):
            keys = keys_of(cast("Any", type(value)))
            return {name: plain(getattr(value, name)) for name, _ in keys}
        case _:
            raise TypeError(f"of type {type(value).__name__} has no JSON form")
