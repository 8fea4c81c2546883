"""[[jobs.periodic]]: jobs that come with the clock, and when their ticks are."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Any, Final, Literal
from uuid import UUID

from attrs import Attribute, asdict, field, frozen

from forgecore.runtime import rules
from forgecore_jobs.options import PRIORITY

_WINDOWS: Final = tuple(timedelta(hours=hours) for hours in (0.02, 1, 24, 24 * 31, 24 * 400))
"""The newest tick is looked for in the last minute, hour, day, month, year."""


def _name(_entry: object, attribute: "Attribute[Any]", value: str) -> None:
    if not 1 <= len(value) <= 127 or not value.isprintable():  # noqa: PLR2004 -- as queues have it
        raise ValueError(f"'{attribute.name}' must be 1 to 127 printable characters")


def _cron(_entry: object, attribute: "Attribute[Any]", value: str) -> None:
    if fault := _fault_of_cron(value):
        raise ValueError(f"'{attribute.name}' {fault}")


def _timezone(_entry: object, attribute: "Attribute[Any]", value: str) -> None:
    if not _is_timezone(value):
        text = f'\'{attribute.name}\' is no time zone: such as "Europe/Berlin" or "UTC"'
        raise ValueError(text)


def _args(_entry: object, attribute: "Attribute[Any]", value: Mapping[str, Any]) -> None:
    if fault := rules.json(dict(value)):
        raise ValueError(f"'{attribute.name}' {fault[1]}")
    tenant = value.get("tenant_id")
    if tenant is not None and not _is_uuid(tenant):
        raise ValueError(f"'{attribute.name}' has a tenant_id that is no UUID")


# Every read of the settings asks again, and an enqueue reads them.
@lru_cache(maxsize=256)
def _fault_of_cron(line: str) -> str | None:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 -- start-up time

    try:
        next(CronSim(line, datetime.now(UTC)))
    except CronSimError as error:
        return f'is no cron line, such as "30 2 * * *": {error}'
    except StopIteration:
        return "never comes"
    return None


@lru_cache(maxsize=256)
def _is_timezone(name: str) -> bool:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 -- as above

    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return False
    return True


def _is_uuid(value: object) -> bool:
    # As Postgres and the hooks write it: another spelling would be another unique key.
    try:
        return str(UUID(str(value))) == value
    except ValueError:
        return False


@frozen(kw_only=True)
class Periodic:
    """An entry: a job of `kind` with `args` at every tick of `cron` in `timezone`.

    `catch_up` says which of the ticks that nobody was there for still get a job. With
    `overlap` false a tick gets none while the last one's job is unfinished.
    """

    name: str = field(validator=_name)
    kind: str
    cron: str = field(validator=_cron)
    args: Mapping[str, Any] = field(factory=dict[str, Any], validator=_args)
    timezone: str = field(default="UTC", validator=_timezone)
    catch_up: Literal["none", "last", "all"] = "last"
    overlap: bool = True
    queue: str | None = None
    priority: int | None = field(default=None, validator=PRIORITY)

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
            # In an hour that comes twice, a line that begins in the second gives the first.
            if (moment := tick.astimezone(UTC)) > after:
                yield moment

    def due(self, first: datetime, now: datetime, most: int) -> list[datetime]:
        """Return the ticks from `first`, which is one, to now; the oldest, if they are many."""
        ticks = takewhile(lambda tick: tick <= now, self.ticks(first))
        return [first, *islice(ticks, most - 1)]

    def newest(self, first: datetime, now: datetime) -> datetime:
        """Return the newest tick from `first`, which is one, to now."""
        for window in _WINDOWS:
            if (start := now - window) <= first:
                break
            if ticks := list(takewhile(lambda tick: tick <= now, self.ticks(start))):
                return ticks[-1]
        return [first, *takewhile(lambda tick: tick <= now, self.ticks(first))][-1]
