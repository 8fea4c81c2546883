"""The statement that writes one job: what its row says, and who has its unique key."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, LiteralString

from attrs import frozen

from forgecore.runtime import rules
from forgecore.runtime.settings import read_section
from forgecore_jobs.settings import DEFAULT_QUEUE, JobsSettings
from forgecore_jobs.sql import insert_head
from forgecore_jobs.unique import Unique
from forgecore_jobs.wiring import Defaults, Wiring

_TYPES: Final[Mapping[LiteralString, LiteralString]] = {
    "kind": "text",
    "queue": "text",
    "run_at": "timestamptz",
    "priority": "smallint",
    "max_attempts": "integer",
    "timeout": "interval",
    "backoff": "text",
    "args": "jsonb",
    "tenant_id": "uuid",
    "metadata": "jsonb",
}
_KEY: Final[tuple[LiteralString, ...]] = (
    *("kind => %(kind)s", "args => %(args)s::jsonb", "queue => %(queue)s"),
    *("tenant_id => %(key_tenant_id)s::uuid", "by => %(key_by)s::text[]"),
    *("until => %(key_until)s", "period => %(key_period)s::interval"),
    *("by_queue => %(key_by_queue)s", "replaced => %(key_replaced)s::text[]"),
    *("run_at => %(key_run_at)s::timestamptz", "priority => %(key_priority)s::integer"),
)


@frozen
class Call:
    """What a call says of its jobs; None is left to the kind's hook, or to [jobs]."""

    queue: str | None
    run_at: datetime | None
    priority: int | None
    max_attempts: int | None
    unique: Unique | None = None

    def fault(self) -> str | None:
        """Return what is wrong with it, or None."""
        if self.queue is not None and self.queue not in read_section(JobsSettings, "jobs").limits:
            return f"queue {self.queue!r} is not in [jobs.queues]"
        checks: tuple[tuple[str, object, rules.Rule], ...] = (
            ("run_at", self.run_at, rules.aware_datetime()),
            ("priority", self.priority, rules.integer(16, minimum=0, maximum=9)),
            ("max_attempts", self.max_attempts, rules.integer(32, minimum=1)),
        )
        for name, value, rule in checks:
            if value is not None and (fault := rule(value)) is not None:
                return f"{name} {fault[1]}"
        return None


def columns_of(kind: str, call: Call, wiring: Wiring) -> dict[LiteralString, object]:
    """Return what a job's row says beside its arguments: the call, then the kind's one hook."""
    known = wiring.defaults.get(kind, Defaults(queue=DEFAULT_QUEUE))
    return {
        "kind": kind,
        "queue": call.queue or known.queue,
        "run_at": call.run_at,
        "priority": known.priority if call.priority is None else call.priority,
        "max_attempts": known.max_attempts if call.max_attempts is None else call.max_attempts,
        "timeout": known.timeout,
        "backoff": known.backoff,
    }


def insert_of(
    values: Mapping[LiteralString, object], unique: Unique | None = None
) -> tuple[LiteralString, dict[str, object]]:
    """Return the statement that writes a job and gives its id; the table says what is None."""
    columns: list[LiteralString] = [name for name, value in values.items() if value is not None]
    params = {name: values[name] for name in columns}
    if unique is None:
        marks: LiteralString = ", ".join([f"%({name})s" for name in columns])
        return f"{insert_head(columns)} VALUES ({marks}) RETURNING id", params
    typed: LiteralString = ", ".join([f"%({name})s::{_TYPES[name]}" for name in columns])
    # Every part is a literal of this module.
    statement: LiteralString = f"""
WITH key AS MATERIALIZED (
    SELECT * FROM forge.jobs_unique({", ".join(_KEY)})
), made AS (
    {insert_head(["id", *columns])}
    SELECT key.job_id, {typed} FROM key WHERE key.is_new
    RETURNING id
)
SELECT id FROM made
UNION ALL
SELECT job_id FROM key WHERE NOT is_new"""  # noqa: S608
    own = {
        "key_tenant_id": values["tenant_id"],
        "key_by": list(unique.by) or None,
        "key_until": unique.until,
        "key_period": unique.period,
        "key_by_queue": unique.queue,
        "key_replaced": list(unique.replace),
        "key_run_at": values["run_at"],
        "key_priority": values["priority"],
    }
    return statement, {**params, **own}
