"""[jobs]: the queues, their limits, and what a kind's hook leaves out."""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import Attribute, field, frozen, validators

from forgecore.runtime.settings import LimitError

DEFAULT_QUEUE: Final = "default"
DEFAULT_LIMIT: Final = 100
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


def _no_queues() -> Mapping[str, int]:
    return {}


@frozen(kw_only=True)
class JobsSettings:
    """The section [jobs].

    `queues` maps a queue to how many of its jobs one worker process runs at once.
    """

    carrier: Literal["postgres"] = "postgres"
    max_attempts: int = field(
        default=25, validator=validators.and_(validators.ge(1), validators.le((1 << 31) - 1))
    )
    queues: Mapping[str, int] = field(factory=_no_queues, validator=_queues)

    @property
    def limits(self) -> Mapping[str, int]:
        """Every queue with its limit; `default` is there when nobody names it."""
        return {DEFAULT_QUEUE: DEFAULT_LIMIT, **self.queues}
