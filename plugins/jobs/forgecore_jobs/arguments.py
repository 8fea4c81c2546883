"""Arguments as JSON: what an enqueue writes."""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, Final, cast
from uuid import UUID

import attrs

from forgecore.runtime import EnqueueError, rules
from forgecore_jobs.job import JobArgs
from forgecore_jobs.plain import LARGEST, keys_of, plain


def check(args: object) -> None:
    """Raise EnqueueError for what is no instance of an attrs class with a kind."""
    cls = cast("Any", type(args))
    if isinstance(args, type) or not _is_of_a_kind(cls):
        kind = getattr(args, "kind", None)
        what = type(args).__name__ if kind is None else str(kind)
        raise EnqueueError([what], "its arguments are no attrs class with `kind: ClassVar[str]`")


def encode(args: JobArgs) -> str:
    """Return the fields of `args` as JSON; EnqueueError names the one that cannot be stored."""
    cls = cast("Any", type(args))
    try:
        # Nearly all arguments are flat; what is doubtful is looked at closely.
        parts = [
            f"{key}{_FLAT[type(value := getattr(args, name))](value)}" for name, key in keys_of(cls)
        ]
    except (KeyError, ValueError):
        return _encoded_with_care(args)
    text = f"{{{','.join(parts)}}}"
    if len(text) > _SURELY_SMALL or _DOUBTFUL.search(text):
        return _encoded_with_care(args)
    return text


def _encoded_with_care(args: JobArgs) -> str:
    kind, found = args.kind, dict[str, object]()
    for name, _ in keys_of(cast("Any", type(args))):
        try:
            value = plain(getattr(args, name))
        except TypeError as error:
            raise EnqueueError([kind], f"`{name}` {error}") from None
        except RecursionError:
            raise EnqueueError([kind], f"`{name}` is nested too deeply") from None
        if value is not None and (fault := rules.json(value)) is not None:
            raise EnqueueError([kind], f"`{name}` {fault[1]}")
        found[name] = value
    text = json.dumps(found, separators=(",", ":"))
    if len(text) > LARGEST:
        raise EnqueueError([kind], f"its arguments are {len(text)} bytes, {LARGEST} at most")
    return text


@lru_cache(maxsize=1024)
def _is_of_a_kind(cls: type[Any]) -> bool:
    return attrs.has(cls) and isinstance(getattr(cls, "kind", None), str)


def _finite(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError
    return repr(value)


def _quoted(value: object) -> str:
    return f'"{value!s}"'


_FLAT: Final[Mapping[type, Callable[[Any], str]]] = {
    str: encode_basestring_ascii,
    int: repr,
    float: _finite,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): lambda _: "null",
    UUID: _quoted,
    Decimal: _quoted,
    datetime: lambda value: _quoted(value.isoformat()),
    date: _quoted,
    time: lambda value: _quoted(value.isoformat()),
}
_SURELY_SMALL: Final = 1 << 12
"""No number in a text of this length is too large for jsonb."""
_DOUBTFUL: Final = re.compile(r"\\u(?:0000|d)")
"""A NUL or half a character may be in the text, or a backslash that only looks like it."""
