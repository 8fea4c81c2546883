"""Limits: what of a queue may run at once, or begin in a time, over all worker processes."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from attrs import frozen

_RATE: Final = re.compile(r"(\d{1,9})\s*/\s*(\d{1,6})?\s*(s|sec|min|h|hour|d|day)")
_SECONDS: Final[Mapping[str, int]] = {
    "s": 1,
    "sec": 1,
    "min": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_LONGEST: Final = timedelta(days=31)


@frozen
class Rate:
    """So many jobs begin in any span of this length."""

    jobs: int
    period: timedelta

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Return the rate of a text such as "10/min" or "100/30s"; ValueError if it is none."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'must be a rate, such as "10/min" or "100/30s": {text!r}')
        jobs, count, unit = found.groups()
        period = timedelta(seconds=int(count or 1) * _SECONDS[unit])
        if not int(jobs) or not timedelta(0) < period <= _LONGEST:
            raise ValueError(f"must be of at least 1 job in 1 second to 31 days: {text!r}")
        return cls(int(jobs), period)


@frozen(kw_only=True)
class Limit:
    """The limits of a queue. With one for each tenant, or `round_robin`, tenants take turns."""

    jobs: int | None = None
    rate: Rate | None = None
    tenant_jobs: int | None = None
    tenant_rate: Rate | None = None
    round_robin: bool = False

    @property
    def by_tenant(self) -> bool:
        """Whether tenants take turns."""
        return self.round_robin or self.tenant_jobs is not None or self.tenant_rate is not None
