"""[[jobs.periodic]]: jobs that come with the clock, and when their ticks are."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Literal

from attrs import Attribute, asdict, field, frozen, validators


def _name(_entry: object, attribute: "Attribute[Any]", value: str) -> None:
    if not 1 <= len(value) <= 127 or not value.isprintable():  # noqa: PLR2004 -- as queues have it
        raise ValueError(f"'{attribute.name}' must be 1 to 127 printable characters")


def _cron(_entry: object, attribute: "Attribute[Any]", value: str) -> None:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 -- who enqueues needs no clock

    try:
        next(CronSim(value, datetime.now(UTC)))
    except CronSimError as error:
        raise ValueError(f"'{attribute.name}' is no cron line: {error}") from None
    except StopIteration:
        raise ValueError(f"'{attribute.name}' never comes") from None


def _timezone(_entry: object, attribute: "Attribute[Any]", value: str) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 -- as above

    try:
        ZoneInfo(value)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        text = f'\'{attribute.name}\' is no time zone: such as "Europe/Berlin" or "UTC"'
        raise ValueError(text) from None


def _nothing() -> Mapping[str, Any]:
    return {}


@frozen(kw_only=True)
class Periodic:
    """An entry: a job of `kind` with `args` at every tick of `cron` in `timezone`.

    `catch_up` says which of the ticks that nobody was there for still get a job. With
    `overlap` false a tick gets none while the last one's job is unfinished.
    """

    name: str = field(validator=_name)
    kind: str
    cron: str = field(validator=_cron)
    args: Mapping[str, Any] = field(factory=_nothing)
    timezone: str = field(default="UTC", validator=_timezone)
    catch_up: Literal["none", "last", "all"] = "last"
    overlap: bool = True
    queue: str | None = None
    priority: int | None = field(
        default=None,
        validator=validators.optional(validators.and_(validators.ge(0), validators.le(9))),
    )

    @property
    def definition(self) -> str:
        """What the entry says, as a text that is the same for the same entry."""
        return json.dumps(asdict(self), sort_keys=True, default=str)

    @property
    def clock(self) -> str:
        """What its ticks depend on."""
        return f"{self.cron} {self.timezone}"

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """Give the ticks after a moment, in UTC.

        As Debian's cron has it: a time that the clocks jump over comes right after the jump,
        a time that comes twice is a tick the first time; lines with `*` as minute or hour go by
        the time that passes.
        """
        from zoneinfo import ZoneInfo  # noqa: PLC0415 -- as above

        from cronsim import CronSim  # noqa: PLC0415 -- as above

        for tick in CronSim(self.cron, after.astimezone(ZoneInfo(self.timezone))):
            yield tick.astimezone(UTC)

    def due(self, first: datetime, now: datetime) -> list[datetime]:
        """Return the ticks from `first`, which is one, to now."""
        return [first, *takewhile(lambda tick: tick <= now, self.ticks(first))]
