"""TOML values -> attrs classes by cattrs; every fault comes back with the path to its key."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from types import UnionType
from typing import Any, Final, Generic, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import Converter
from cattrs.errors import (
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from forgecore.runtime.settings import describe, parse_duration, said_limit
from forgecore.source import KeyPath

T = TypeVar("T")


@frozen
class Fault:
    """What is wrong at a path below the structured table."""

    path: KeyPath
    code: Literal["unknown-key", "missing-key", "wrong-type", "bad-value"]
    text: str


DROPPED: Final = object()
"""Stands for an item of a list that fell out, so that the others keep their places."""


class _WrongTypeError(ValueError):
    pass


@frozen
class Converted(Generic[T]):
    """What `convert` made.

    With faults, `value` is what the sound parts make, or None if they do not suffice, and
    `table` is the table without the rest; items of lists that fell out are DROPPED in it.
    """

    value: T | None
    faults: Sequence[Fault]
    table: object


def convert(cls: type[T], table: object) -> Converted[T]:
    """Structure `table` as `cls`, as far as it goes, and say every fault of it."""
    faults: list[Fault] = []
    while True:
        try:
            return Converted(_CONVERTER.structure(table, cls), faults, table)
        except (ClassValidationError, _WrongTypeError) as error:
            found = list(_faults(error, ()))
        # What fell out is missing from then on: that is said already.
        faults += [fault for fault in found if not faults or fault.code != "missing-key"]
        for fault in found:
            if not fault.path:
                return Converted(None, faults, table)
            table = _without(table, fault.path)


def _without(table: object, path: KeyPath) -> object:
    key, *rest = path
    if isinstance(table, Mapping):
        pairs = cast("Mapping[str, object]", table)
        if rest and key in pairs:
            return {**pairs, str(key): _without(pairs[str(key)], tuple(rest))}
        return {name: value for name, value in pairs.items() if name != key}
    if isinstance(table, list) and isinstance(key, int):
        items = list(cast("list[object]", table))
        items[key] = _without(items[key], tuple(rest)) if rest else DROPPED
        return items
    return table


def _faults(error: BaseException, path: KeyPath) -> Iterator[Fault]:
    match error:
        case ClassValidationError():
            noted, other = error.group_exceptions()
            for inner, note in noted:
                if isinstance(inner, KeyError):
                    yield Fault(path, "missing-key", f"`{note.name}` is missing")
                else:
                    yield from _faults(inner, (*path, note.name))
            for inner in other:
                yield from _faults(inner, path)
        case IterableValidationError():
            for inner, place in error.group_exceptions()[0]:
                yield from _faults(inner, (*path, place.index))
        case ForbiddenExtraKeysError():
            for key in sorted(error.extra_fields):
                yield Fault((*path, key), "unknown-key", f"unknown key `{key}`")
        case _WrongTypeError():
            yield Fault(path, "wrong-type", str(error))
        case _:
            yield _from_validator(error, path)


def _from_validator(error: BaseException, path: KeyPath) -> Fault:
    # attrs words a validator's complaint as "'pool' must be >= 1: 0".
    text = str(error.args[0]) if error.args else str(error)
    if text.startswith("'"):
        name, _, rest = text[1:].partition("' ")
        return Fault((*path, name), "bad-value", f"`{name}` {said_limit(rest)}")
    return Fault(path, "bad-value", text)


def _converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    for plain in (str, bool, int):
        converter.register_structure_hook(plain, _strict(plain))
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_structure_hook(timedelta, _duration)
    converter.register_structure_hook_func(_is_anything, _as_it_is)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_factory(_is_optional, _optional)
    converter.register_structure_hook_factory(_is_tuple, _tuple)
    converter.register_structure_hook_factory(attrs.has, _table)
    return converter


def _strict(plain: type[T]) -> Callable[[object, object], T]:
    def hook(value: object, _hint: object) -> T:
        if type(value) is not plain:
            raise _WrongTypeError(f"must be {describe(plain)}")
        return value

    return hook


def _float(value: object, _hint: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _WrongTypeError("must be a number")
    return float(value)


def _decimal(value: object, _hint: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _WrongTypeError("must be a number")
    return Decimal(value)


def _duration(value: object, _hint: object) -> timedelta:
    if not isinstance(value, str):
        raise _WrongTypeError(f"must be {describe(timedelta)}")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise _WrongTypeError(str(error)) from None


def _is_anything(hint: object) -> bool:
    return hint in (Any, object)


def _as_it_is(value: object, _hint: object) -> object:
    return value


def _is_literal(hint: object) -> bool:
    return cast("object", get_origin(hint)) is Literal


def _literal(value: object, hint: object) -> object:
    if value not in get_args(hint):
        raise _WrongTypeError(f"must be {describe(hint)}")
    return value


def _is_optional(hint: object) -> bool:
    return get_origin(hint) in {Union, UnionType} and type(None) in get_args(hint)


def _optional(hint: Any, converter: Converter) -> Callable[[object, object], object]:  # noqa: ANN401
    (inner,) = (part for part in get_args(hint) if part is not type(None))
    return lambda value, _hint: converter.structure(value, inner)


def _is_tuple(hint: object) -> bool:
    return get_origin(hint) is tuple


def _tuple(hint: Any, converter: Converter) -> Callable[[object, object], object]:  # noqa: ANN401
    inner = get_args(hint)[0]

    def hook(value: object, _hint: object) -> object:
        if not isinstance(value, list):
            raise _WrongTypeError("must be a list")
        structured: list[object] = []
        errors: list[Exception] = []
        for index, item in enumerate(cast("list[object]", value)):
            if item is DROPPED:
                continue
            try:
                structured.append(converter.structure(item, inner))
            except Exception as error:  # noqa: BLE001 -- collected, with its place
                error.__notes__ = [
                    *getattr(error, "__notes__", []),
                    IterableValidationNote(f"at index {index}", index, inner),
                ]
                errors.append(error)
        if errors:
            raise IterableValidationError("in a list", errors, hint)
        return tuple(structured)

    return hook


def _table(cls: type, converter: Converter) -> Callable[[object, object], object]:
    inner = make_dict_structure_fn(
        cast("Any", cls),
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
    )

    def hook(value: object, hint: object) -> object:
        if not isinstance(value, Mapping):
            raise _WrongTypeError("must be a table")
        table = cast("Mapping[str, Any]", value)
        try:
            return inner(table, cast("Any", hint))
        except ClassValidationError as error:
            # A class is only made, and its validators only run, once every key has its type.
            noted, _ = error.group_exceptions()
            unknown = [one for one in error.exceptions if isinstance(one, ForbiddenExtraKeysError)]
            limits = _limits(cls, table, converter)
            found = [*(one for one, _ in noted), *unknown, *limits]
            raise ClassValidationError(error.message, found, cls) from None

    return hook


def _limits(cls: type, table: Mapping[str, Any], converter: Converter) -> Iterator[Exception]:
    """Give what the validators of single attributes say of the keys that could be read."""
    for attribute in attrs.fields(cast("Any", cls)):
        if attribute.validator is None or attribute.name not in table:
            continue
        try:
            value = converter.structure(table[attribute.name], cast("Any", attribute.type))
        except Exception:  # noqa: BLE001, S112 -- said already, as a fault of the type
            continue
        try:
            attribute.validator(cast("Any", None), attribute, value)
        except (ValueError, TypeError) as error:
            yield error


_CONVERTER: Final = _converter()
