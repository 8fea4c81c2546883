"""Decode: the arguments of a row as the class of their kind."""

import json
from collections.abc import Callable, Hashable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import UnionType
from typing import Any, Final, Union, cast, get_args, get_origin
from uuid import UUID

from cattrs import Converter, transform_error

from forgecore_jobs.job import VERSION, Claim
from forgecore_jobs.worker import Worker


class ArgumentsError(Exception):
    """The arguments of a job do not fit the class of its kind."""


class NewerArgumentsError(Exception):
    """The arguments are of a newer deployment, whose worker is to run the job."""


def decode(worker: Worker[Any], claim: Claim) -> object:
    """Return the claim's arguments as their class; ArgumentsError names the fields at fault."""
    try:
        args: object = json.loads(claim.args)
    except (ValueError, RecursionError) as error:
        raise ArgumentsError(f"args cannot be read: {error}") from None
    if worker.version > 1 or VERSION in claim.metadata:
        args = _upcast(worker, args, _version_of(claim))
    return structured(worker, args)


def _version_of(claim: Claim) -> int:
    try:
        metadata: object = json.loads(claim.metadata)
        pairs = cast("dict[str, str]", metadata) if isinstance(metadata, dict) else {}
        return int(pairs.get(VERSION, 1))
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentsError(f"the version of its args cannot be read: {error}") from None


def _upcast(worker: Worker[Any], args: Any, version: int) -> object:  # noqa: ANN401 -- as below
    """Return arguments of a version as those of the worker's class."""
    if version > worker.version:
        raise NewerArgumentsError(f"its arguments have version {version}, here is {worker.version}")
    for step in range(version, worker.version):
        if (upcaster := worker.upcasters.get(step)) is None:
            raise ArgumentsError(f"no upcaster makes version {step} of its args {step + 1}")
        try:
            args = upcaster(args)
        except Exception as error:
            text = f"the upcaster of version {step} failed: {type(error).__name__}: {error}"
            raise ArgumentsError(text) from error
    return args


def structured(worker: Worker[Any], args: Any) -> object:  # noqa: ANN401 -- whatever JSON may hold
    """Return `args` as the class of a worker's kind; ArgumentsError names the fields at fault."""
    try:
        return _fast(cast("Any", worker.args))(args, worker.args)
    except Exception:  # noqa: BLE001, S110 -- looked at closely below
        pass
    try:
        return _CONVERTER.structure(args, worker.args)
    except Exception as error:  # noqa: BLE001 -- a border: the fields are named
        faults = "; ".join(transform_error(error, path="args"))
        raise ArgumentsError(faults) from None


@lru_cache(maxsize=1024)
def _fast(args: Hashable) -> Callable[[Any, Any], object]:
    hook: Callable[[Any, Any], object] = _FAST.get_structure_hook(args)
    return hook


def _converter(*, detailed: bool) -> Converter:
    converter = Converter(detailed_validation=detailed, forbid_extra_keys=True)
    for cls in (UUID, Decimal):
        converter.register_structure_hook(cls, lambda value, to: to(str(value)))
    for moment in (datetime, date, time):
        converter.register_structure_hook(moment, lambda value, to: to.fromisoformat(value))
    converter.register_structure_hook(timedelta, lambda value, _: timedelta(seconds=value))
    # By identity: an enum that is a str as well has a hook of its own.
    converter.register_structure_hook_func(lambda to: to in (str, int, bool), _exact)
    converter.register_structure_hook_func(_is_plain_union, _one_of)
    return converter


def _exact(value: object, to: Any) -> Any:  # noqa: ANN401 -- whatever the class says
    if type(value) is not to:
        raise ValueError(f"expected {to.__name__}")
    return value


def _is_plain_union(to: Any) -> bool:  # noqa: ANN401
    return get_origin(to) in {Union, UnionType} and set(get_args(to)) <= _PLAIN


def _one_of(value: object, to: Any) -> object:  # noqa: ANN401
    if type(value) is int and float in get_args(to) and int not in get_args(to):
        return float(value)
    if type(value) not in get_args(to):
        raise ValueError(f"expected {' or '.join(one.__name__ for one in get_args(to))}")
    return value


_PLAIN: Final = {str, int, bool, float, type(None)}
_CONVERTER: Final = _converter(detailed=True)
_FAST: Final = _converter(detailed=False)
"""The same, which stops at the first fault and does not say where it is."""
