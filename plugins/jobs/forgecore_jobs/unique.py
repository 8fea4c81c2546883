"""Unique: what makes a second job of a kind the same as one that is there."""

from datetime import timedelta
from typing import Any, Literal, cast, get_args

from attrs import Attribute, field, frozen, validators

from forgecore_jobs.job import LONGEST_DELAY

Replaced = Literal["args", "run_at", "priority"]


def _names(_unique: object, attribute: "Attribute[Any]", value: object) -> None:
    parts = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (None,)
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"'{attribute.name}' must be a tuple of names")


def _replaced(_unique: object, attribute: "Attribute[Any]", value: object) -> None:
    _names(_unique, attribute, value)
    if odd := set(cast("tuple[str, ...]", value)) - set(get_args(Replaced)):
        known = ", ".join(get_args(Replaced))
        raise ValueError(f"'{attribute.name}' must be of {known}: {', '.join(sorted(odd))}")


def _period(_unique: object, attribute: "Attribute[Any]", value: timedelta | None) -> None:
    if value is not None and not isinstance(value, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"'{attribute.name}' must be a timedelta")
    if value is not None and not timedelta(0) < value <= LONGEST_DELAY:
        raise ValueError(f"'{attribute.name}' must be more than nothing, and ten years at most")


@frozen(kw_only=True)
class Unique:
    """A job is not written while another of its kind, tenant and arguments is there.

    `by` names the arguments that count; without it all do. The other job is there until it is
    `started`, or `finished`; or, with `period`, for so long from its enqueue, whatever becomes
    of it. With `queue`, jobs of other queues are others. `replace` says what of a waiting job
    the newer call changes.
    """

    by: tuple[str, ...] = field(default=(), validator=_names)
    until: Literal["started", "finished"] = field(
        default="started", validator=validators.in_(("started", "finished"))
    )
    period: timedelta | None = field(default=None, validator=_period)
    queue: bool = False
    replace: tuple[Replaced, ...] = field(default=(), validator=_replaced)
