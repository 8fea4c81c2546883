"""What the plugin adds to a resource: [[hooks.after_create]] and its sisters."""

from datetime import timedelta
from typing import Any, Final

from attrs import Attribute, field, frozen, validators

from forgecore_jobs.backoff import Backoff
from forgecore_jobs.sequence import Failing
from forgecore_jobs.unique import Unique

EVENTS: Final = ("after_create", "after_update", "after_delete")
"""The events of a resource, and the names of the tables."""

LARGEST: Final = (1 << 31) - 1
"""What a column of type integer holds."""

DEFAULT_PRIORITY: Final = 5
"""What the outbox gives a job that says none; 0 is first, 9 last."""

PRIORITY: Final = validators.optional(validators.and_(validators.ge(0), validators.le(9)))
"""The validator of a priority."""


def _positive(_hook: object, attribute: "Attribute[Any]", value: timedelta | None) -> None:
    if value is not None and value <= timedelta(0):
        raise ValueError(f"'{attribute.name}' must be more than nothing")


def _backoff(_hook: object, attribute: "Attribute[Any]", value: str | None) -> None:
    if value is None:
        return
    try:
        Backoff.parse(value)
    except ValueError as error:
        raise ValueError(f"'{attribute.name}' {error}") from None


@frozen(kw_only=True)
class Hook:
    """A job kind that an event enqueues. What it leaves out, [jobs] says.

    `only_if_changed` names fields and relations of an update: none changed, no job. `sequence`
    runs a record's jobs one at a time and in order; one that fails blocks or passes.
    """

    kind: str
    queue: str = "default"
    max_attempts: int | None = field(
        default=None,
        validator=validators.optional(validators.and_(validators.ge(1), validators.le(LARGEST))),
    )
    timeout: timedelta | None = field(default=None, validator=_positive)
    backoff: str | None = field(default=None, validator=_backoff)
    priority: int | None = field(default=None, validator=PRIORITY)
    unique: Unique | None = None
    only_if_changed: tuple[str, ...] = ()
    sequence: Failing | None = None


@frozen(kw_only=True)
class Hooks:
    """The hooks of a resource, by event, in the order of their declaration."""

    after_create: tuple[Hook, ...] = ()
    after_update: tuple[Hook, ...] = ()
    after_delete: tuple[Hook, ...] = ()

    def of(self, event: str) -> tuple[Hook, ...]:
        """Return the hooks of one event."""
        return {
            "after_create": self.after_create,
            "after_update": self.after_update,
            "after_delete": self.after_delete,
        }[event]
