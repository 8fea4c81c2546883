"""Factories: inputs of resources whose required fields a test need not care about."""

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from attrs import NOTHING, Attribute, fields

I = TypeVar("I")  # noqa: E741 -- an input
_numbers: Final = itertools.count(1)


def build(cls: type[I], **given: object) -> I:
    """Make an input, such as ProductCreate, of what is given and of values that its rules accept.

    TypeError names a field that it finds no value for, as with a relation or a pattern.
    """
    rules = _rules(cls)
    number = next(_numbers)
    attributes = cast("tuple[Attribute[Any], ...]", fields(cast("Any", cls)))
    for one in attributes:
        if one.name in given or one.default is not NOTHING:
            continue
        rule = rules.get(one.name, _anything)
        found = [value for value in _values(one.name, number) if rule(value) is None][:1]
        if not found or one.name.endswith("_id"):
            raise TypeError(f"{cls.__name__} needs `{one.name}`: give it")
        given[one.name] = found[0]
    made: I = cast("Any", cls)(**given)
    return made


def _rules(cls: type) -> Mapping[str, Callable[[object], object]]:
    module = cls.__module__.replace(".gen.models.", ".gen.validation.")
    rules: Mapping[str, Callable[[object], object]] = importlib.import_module(module).RULES
    return rules


def _anything(_value: object) -> None:
    return None


def _values(name: str, number: int) -> Iterator[object]:
    yield f"{name} {number}"
    yield f"{name}{number}"
    yield str(number)
    yield f"{name} {number} ".ljust(200, "x")
    yield f"{name}{number}@example.org"
    yield f"https://example.org/{number}"
    for value in (number, 1, 0, 10, 100, 1000, -1):
        yield value
        yield Decimal(value)
        yield float(value)
    yield from (False, True)
    yield from (datetime(2030, 1, 1, tzinfo=UTC), date(2030, 1, 1), time(12))
    yield from (uuid4(), b"bytes", {}, [])
