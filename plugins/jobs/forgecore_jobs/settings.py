"""[jobs]: the queues, their limits, and what a kind's hook leaves out."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Literal

from attrs import Attribute, field, frozen, validators

from forgecore.runtime.settings import LimitError
from forgecore_jobs.limits import Limit, Rate
from forgecore_jobs.periodic import Periodic

DEFAULT_QUEUE: Final = "default"
DEFAULT_LIMIT: Final = 100
KEPT: Final[Mapping[str, timedelta]] = {
    "completed": timedelta(days=7),
    "discarded": timedelta(days=90),
    "cancelled": timedelta(days=30),
}
"""How long finished jobs are kept, by state, where [jobs.keep] says nothing."""

_QUEUE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,127}")


def _queues(_settings: object, _attribute: "Attribute[Any]", queues: Mapping[str, int]) -> None:
    faults = {name: "must be at least 1" for name, limit in queues.items() if limit < 1}
    faults |= {
        name: "is no queue's name: 1 to 127 letters, digits and _ . : -"
        for name in queues
        if not _QUEUE.fullmatch(name)
    }
    if faults:
        raise LimitError(faults)


def _keep(_settings: object, _attribute: "Attribute[Any]", keep: Mapping[str, timedelta]) -> None:
    known = ", ".join(KEPT)
    faults = {name: f"is no state that a job ends in: {known}" for name in keep if name not in KEPT}
    faults |= {
        name: "must be at least a day"
        for name, time in keep.items()
        if name in KEPT and time < timedelta(days=1)
    }
    if faults:
        raise LimitError(faults)


def _periodic(_settings: object, _attribute: "Attribute[Any]", entries: Sequence[Periodic]) -> None:
    first: dict[str, int] = {}
    faults: dict[str, str] = {}
    for index, entry in enumerate(entries):
        if first.setdefault(entry.name, index) != index:
            faults[str(index)] = f"has the name of another entry, {entry.name!r}"
    if faults:
        raise LimitError(faults)


def _limits(_settings: object, _attribute: "Attribute[Any]", most: Mapping[str, int]) -> None:
    if faults := {name: "must be at least 1" for name, limit in most.items() if limit < 1}:
        raise LimitError(faults)


def _rates(_settings: object, _attribute: "Attribute[Any]", rates: Mapping[str, str]) -> None:
    faults: dict[str, str] = {}
    for name, rate in rates.items():
        try:
            Rate.parse(rate)
        except ValueError as error:
            faults[name] = str(error)
    if faults:
        raise LimitError(faults)


def _not_negative(_settings: object, attribute: "Attribute[Any]", value: timedelta) -> None:
    if value < timedelta(0):
        raise ValueError(f"'{attribute.name}' must not be negative")


def _nothing() -> Mapping[str, Any]:
    return {}


@frozen(kw_only=True)
class JobsSettings:
    """The section [jobs].

    `queues` maps a queue to how many of its jobs one worker process runs at once. `grace` is
    what running jobs have to end after SIGTERM. `listen` lets a sleeping worker be woken by
    NOTIFY instead of its next poll. `keep` maps the state that a job ended in to how long it
    is kept. `periodic` are the jobs that come with the clock.

    Over all processes: `global_limits` is how many jobs of a queue run at once, `rate_limits` how
    many begin in a time; `tenant_limits` and `tenant_rate_limits` are the same for each tenant.
    Tenants take turns in queues that have those, and in those of `round_robin`.
    """

    carrier: Literal["postgres"] = "postgres"
    max_attempts: int = field(
        default=25, validator=validators.and_(validators.ge(1), validators.le((1 << 31) - 1))
    )
    queues: Mapping[str, int] = field(factory=_nothing, validator=_queues)
    grace: timedelta = field(default=timedelta(seconds=30), validator=_not_negative)
    listen: bool = True
    keep: Mapping[str, timedelta] = field(factory=_nothing, validator=_keep)
    periodic: tuple[Periodic, ...] = field(default=(), validator=_periodic)
    global_limits: Mapping[str, int] = field(factory=_nothing, validator=_limits)
    rate_limits: Mapping[str, str] = field(factory=_nothing, validator=_rates)
    tenant_limits: Mapping[str, int] = field(factory=_nothing, validator=_limits)
    tenant_rate_limits: Mapping[str, str] = field(factory=_nothing, validator=_rates)
    round_robin: tuple[str, ...] = ()

    @property
    def limits(self) -> Mapping[str, int]:
        """Every queue with its limit; `default` is there when nobody names it."""
        return {DEFAULT_QUEUE: DEFAULT_LIMIT, **self.queues}

    @property
    def kept(self) -> Mapping[str, timedelta]:
        """How long finished jobs are kept, for every state that a job ends in."""
        return {**KEPT, **self.keep}

    @property
    def limited(self) -> Mapping[str, Limit]:
        """The queues that have a limit over all processes, or whose tenants take turns."""
        names = {
            *self.global_limits,
            *self.rate_limits,
            *self.tenant_limits,
            *self.tenant_rate_limits,
            *self.round_robin,
        }
        return {
            name: Limit(
                jobs=self.global_limits.get(name),
                rate=_rate_of(self.rate_limits, name),
                tenant_jobs=self.tenant_limits.get(name),
                tenant_rate=_rate_of(self.tenant_rate_limits, name),
                round_robin=name in self.round_robin,
            )
            for name in sorted(names)
        }


def _rate_of(rates: Mapping[str, str], name: str) -> Rate | None:
    return Rate.parse(rates[name]) if name in rates else None
