"""Checks of single values. Each returns the fault as (code, message), or None.

A rule also refuses what the driver or the server would: characters that text cannot
hold, NaN, rounding, numbers out of range, times with or without a zone.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final, TypeVar, cast
from urllib.parse import urlsplit
from uuid import UUID

from attrs import define, field

from forgecore.runtime.errors import FieldError, ValidationError

Fault = tuple[str, str]
Rule = Callable[[object], Fault | None]
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_DEEPEST: Final = 64
_DEEPEST_SCALE: Final = 16383  # of Postgres' numeric
_WIDEST_INT: Final = 1 << 14000  # what Python turns into text, and jsonb reads


_T = TypeVar("_T", int, float, Decimal, date, datetime, time)


def text(*, min_length: int = 0, max_length: int | None = None, pattern: str | None = None) -> Rule:
    """Accept a string that Postgres can store, of a length (in characters) and form."""
    form = re.compile(pattern) if pattern is not None else None

    def check(value: object) -> Fault | None:
        if not isinstance(value, str):
            return "type", "must be a string"
        if len(value) < min_length:
            return "too_short", f"must have at least {min_length} characters"
        if max_length is not None and len(value) > max_length:
            return "too_long", f"must have at most {max_length} characters"
        if _UNSTORABLE.search(value):
            return "characters", "has characters that cannot be stored"
        if form and not form.fullmatch(value):
            return "pattern", f"must match {form.pattern}"
        return None

    return check


def slug(*, min_length: int = 0, max_length: int | None = None, pattern: str | None = None) -> Rule:
    """Accept lower-case words of letters and digits, joined by single hyphens."""
    return _formed(
        text(min_length=min_length, max_length=max_length, pattern=pattern),
        lambda value: _SLUG.fullmatch(value) is not None,
        ("slug", "must be lower-case letters, digits and single hyphens"),
    )


def email(
    *, min_length: int = 0, max_length: int | None = None, pattern: str | None = None
) -> Rule:
    """Accept what has the form of an address; whether it exists only a message can tell."""
    return _formed(
        text(min_length=min_length, max_length=max_length, pattern=pattern),
        lambda value: _EMAIL.fullmatch(value) is not None,
        ("email", "must be an e-mail address"),
    )


def url(*, min_length: int = 0, max_length: int | None = None, pattern: str | None = None) -> Rule:
    """Accept an http or https address with a host."""
    return _formed(
        text(min_length=min_length, max_length=max_length, pattern=pattern),
        _is_address,
        ("url", "must be an http or https address"),
    )


def integer(bits: int, *, minimum: int | None = None, maximum: int | None = None) -> Rule:
    """Accept a whole number that fits a signed integer of `bits` bits."""
    limit = 1 << bits - 1

    def check(value: object) -> Fault | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return "type", "must be a whole number"
        if not -limit <= value < limit:
            return "range", f"must fit {bits} bits"
        return _within(value, minimum, maximum)

    return check


def floating(*, minimum: float | None = None, maximum: float | None = None) -> Rule:
    """Accept a finite number."""

    def check(value: object) -> Fault | None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return "type", "must be a number"
        try:
            number = float(value)
        except OverflowError:
            return "range", "must fit a double"
        if not math.isfinite(number):
            return "finite", "must be a finite number"
        return _within(number, minimum, maximum)

    return check


def decimal(
    precision: int,
    scale: int,
    *,
    minimum: Decimal | int | None = None,
    maximum: Decimal | int | None = None,
) -> Rule:
    """Accept a finite decimal that fits numeric(precision, scale) without rounding."""
    limit = Decimal(10) ** (precision - scale)
    low = None if minimum is None else Decimal(minimum)
    high = None if maximum is None else Decimal(maximum)

    def check(value: object) -> Fault | None:
        if not isinstance(value, Decimal):
            return "type", "must be a decimal"
        _sign, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            return "finite", "must be a finite number"
        if exponent < -_DEEPEST_SCALE:
            return "scale", f"must have at most {scale} decimal places"
        # Zeros behind the last place are no loss, whatever the context's precision is.
        if exponent < -scale and any(digits[exponent + scale :]):
            return "scale", f"must have at most {scale} decimal places"
        if value and value.adjusted() >= precision - scale:
            return "range", f"must be below {limit}"
        return _within(value, low, high)

    return check


def boolean(value: object) -> Fault | None:
    """Accept True and False."""
    return None if isinstance(value, bool) else ("type", "must be true or false")


def uuid(value: object) -> Fault | None:
    """Accept a UUID."""
    return None if isinstance(value, UUID) else ("type", "must be a UUID")


def binary(value: object) -> Fault | None:
    """Accept bytes."""
    return None if isinstance(value, bytes) else ("type", "must be bytes")


def aware_datetime(*, minimum: datetime | None = None, maximum: datetime | None = None) -> Rule:
    """Accept a datetime with a time zone, within the years 1 to 9999 in UTC."""

    def check(value: object) -> Fault | None:
        if not isinstance(value, datetime):
            return "type", "must be a datetime"
        if value.utcoffset() is None:
            return "zone", "must have a time zone"
        try:
            value.astimezone(UTC)
        except OverflowError:
            return "range", "must be within the years 1 to 9999 in UTC"
        return _within(value, minimum, maximum)

    return check


def naive_date(*, minimum: date | None = None, maximum: date | None = None) -> Rule:
    """Accept a date."""

    def check(value: object) -> Fault | None:
        if not isinstance(value, date) or isinstance(value, datetime):
            return "type", "must be a date"
        return _within(value, minimum, maximum)

    return check


def naive_time(*, minimum: time | None = None, maximum: time | None = None) -> Rule:
    """Accept a time of day without a time zone."""

    def check(value: object) -> Fault | None:
        if not isinstance(value, time):
            return "type", "must be a time"
        if value.tzinfo is not None:
            return "zone", "must have no time zone"
        return _within(value, minimum, maximum)

    return check


def one_of(values: Iterable[str]) -> Rule:
    """Accept one of a closed set of strings."""
    members = tuple(values)

    def check(value: object) -> Fault | None:
        if isinstance(value, str) and value in members:
            return None
        return "member", f"must be one of {', '.join(members)}"

    return check


def json(value: object) -> Fault | None:
    """Accept what jsonb can store: no NaN, no unstorable characters, text as keys."""
    if value is None:
        return "required", "must not be null"
    return _json(value, 0)


def array(items: Rule) -> Rule:
    """Accept a list whose every element `items` accepts."""

    def check(value: object) -> Fault | None:
        if not isinstance(value, list):
            return "type", "must be a list"
        for element in cast("list[object]", value):
            if (fault := items(element)) is not None:
                return fault[0], f"has an element that {fault[1]}"
        return None

    return check


def optional(rule: Rule) -> Rule:
    """Accept None, or what `rule` accepts."""
    return lambda value: None if value is None else rule(value)


@define
class Check:
    """Collects every fault of one input before it raises."""

    errors: list[FieldError] = field(factory=list[FieldError])

    def add(self, name: str, code: str, message: str) -> None:
        """Note a fault."""
        self.errors.append(FieldError(name, code, message))

    def apply(self, rules: Mapping[str, Rule], values: Mapping[str, object]) -> None:
        """Note what `rules` find in `values`."""
        for name, value in values.items():
            if (fault := rules[name](value)) is not None:
                self.errors.append(FieldError(name, *fault))

    def done(self) -> None:
        """Raise what was noted."""
        if self.errors:
            summary = "; ".join(f"{error.field} {error.message}" for error in self.errors)
            raise ValidationError(summary, self.errors)


def _formed(base: Rule, fits: Callable[[str], bool], fault: Fault) -> Rule:
    def check(value: object) -> Fault | None:
        if (found := base(value)) is not None:
            return found
        return None if fits(cast("str", value)) else fault

    return check


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False


def _within(value: _T, minimum: _T | None, maximum: _T | None) -> Fault | None:
    if minimum is not None and value < minimum:
        return "too_small", f"must be at least {minimum}"
    if maximum is not None and value > maximum:
        return "too_large", f"must be at most {maximum}"
    return None


def _json(value: object, depth: int) -> Fault | None:
    if depth > _DEEPEST:
        return "depth", f"must be nested at most {_DEEPEST} deep"
    match value:
        case None | bool():
            return None
        case int():
            return None if abs(value) < _WIDEST_INT else ("range", "has a number that is too large")
        case str():
            if _UNSTORABLE.search(value):
                return "characters", "has characters that cannot be stored"
            return None
        case float():
            return None if math.isfinite(value) else ("finite", "has a number that is not finite")
        case list() | tuple():
            parts: Iterable[object] = cast("Iterable[object]", value)
        case dict():
            members = cast("dict[object, object]", value)
            if not all(isinstance(key, str) for key in members):
                return "type", "must have text as keys"
            parts = [*members.keys(), *members.values()]
        case _:
            return "type", "must be made of JSON's types"
    return next((fault for part in parts if (fault := _json(part, depth + 1))), None)
