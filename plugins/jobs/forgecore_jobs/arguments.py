"""Arguments as JSON: what an enqueue writes."""

import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast
from uuid import UUID

import attrs

from forgecore.runtime import EnqueueError, rules
from forgecore_jobs.job import JobArgs

LARGEST: Final = 1 << 20
"""Bytes of a job's arguments as JSON. What is larger belongs into a table or a bucket."""


def check(args: object) -> None:
    """Raise EnqueueError for what is no instance of an attrs class with a kind."""
    kind = getattr(args, "kind", None)
    if not attrs.has(type(args)) or isinstance(args, type) or not isinstance(kind, str):
        what = type(args).__name__ if kind is None else str(kind)
        raise EnqueueError([what], "its arguments are no attrs class with `kind: ClassVar[str]`")


def to_json(args: JobArgs) -> dict[str, Any]:
    """Return the fields of `args`; EnqueueError names the one that cannot be stored."""
    values: dict[str, Any] = {}
    for attribute in attrs.fields(cast("Any", type(args))):
        if not attribute.init:
            continue
        try:
            value = _plain(getattr(args, attribute.name))
        except TypeError as error:
            raise EnqueueError([args.kind], f"`{attribute.name}` {error}") from None
        except RecursionError:
            raise EnqueueError([args.kind], f"`{attribute.name}` is nested too deeply") from None
        if value is not None and (fault := rules.json(value)) is not None:
            raise EnqueueError([args.kind], f"`{attribute.name}` {fault[1]}")
        values[attribute.name] = value
    if (size := len(json.dumps(values))) > LARGEST:
        raise EnqueueError([args.kind], f"its arguments are {size} bytes, {LARGEST} at most")
    return values


def _plain(value: object) -> object:
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
            return _plain(value.value)
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in cast("list[object]", value)]
        case Mapping():
            pairs = cast("Mapping[object, object]", value)
            if not all(isinstance(key, str) for key in pairs):
                raise TypeError("has a key that is no text")
            return {str(key): _plain(item) for key, item in pairs.items()}
        case _ if attrs.has(type(value)):
            cls = cast("Any", type(value))
            own = [one.name for one in attrs.fields(cls) if one.init]
            return {name: _plain(getattr(value, name)) for name in own}
        case _:
            raise TypeError(f"of type {type(value).__name__} has no JSON form")
