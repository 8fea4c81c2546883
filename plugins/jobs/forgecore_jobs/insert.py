"""The statement that writes jobs: what their rows say, who has a key, who waits for whom."""

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

from attrs import frozen

from forgecore.runtime import rules
from forgecore.runtime.settings import read_section
from forgecore_jobs.job import AFTER, VERSION
from forgecore_jobs.sequence import LONGEST, Turn
from forgecore_jobs.settings import DEFAULT_QUEUE, JobsSettings
from forgecore_jobs.sql import insert_head
from forgecore_jobs.steps import Call, Needs
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
_KEY: Final[tuple[tuple[LiteralString, LiteralString, LiteralString], ...]] = (
    ("args", "args", "jsonb"),
    ("queue", "queue", "text"),
    ("tenant_id", "key_tenant_id", "uuid"),
    ("by", "key_by", "text[]"),
    ("until", "key_until", "text"),
    ("period", "key_period", "interval"),
    ("by_queue", "key_by_queue", "boolean"),
    ("replaced", "key_replaced", "text[]"),
    ("run_at", "key_run_at", "timestamptz"),
    ("priority", "key_priority", "integer"),
)
_MOST: Final = 500
"""Jobs in one statement; Postgres takes 65535 parameters."""


@frozen(kw_only=True)
class Node:
    """A job of a statement. `parent` is the place of the job that it follows, before it."""

    values: Mapping[LiteralString, object]
    unique: Unique | None = None
    turn: Turn | None = None
    after: Sequence[int] = ()
    needs: Needs = "completed"
    parent: int | None = None

    @property
    def is_placed(self) -> bool:
        """Whether it may have to wait for others."""
        return self.turn is not None or bool(self.after) or self.parent is not None


def fault_of(call: Call) -> str | None:
    """Return what is wrong with what a call says, or None."""
    if call.queue is not None and call.queue not in read_section(JobsSettings, "jobs").limits:
        return f"queue {call.queue!r} is not in [jobs.queues]"
    checks: tuple[tuple[str, object, rules.Rule], ...] = (
        ("run_at", call.run_at, rules.aware_datetime()),
        ("priority", call.priority, rules.integer(16, minimum=0, maximum=9)),
        ("max_attempts", call.max_attempts, rules.integer(32, minimum=1)),
        ("sequence", call.sequence, rules.text(min_length=1, max_length=LONGEST)),
    )
    for name, value, rule in checks:
        if value is not None and (fault := rule(value)) is not None:
            return f"{name} {fault[1]}"
    if call.failing not in {"blocks", "passes"}:
        return 'failing must be "blocks" or "passes"'
    if call.failing == "passes" and call.sequence is None:
        return "failing says something of a sequence, and there is none"
    if call.needs not in {"completed", "failed", "ended"}:
        return 'needs must be "completed", "failed" or "ended"'
    is_id = rules.integer(64, minimum=1)
    if not isinstance(call.after, list | tuple) or any(
        is_id(one) is not None for one in call.after
    ):
        return "after must be ids of jobs"
    return None


def metadata_of(version: int, turn: Turn | None, after: Sequence[int] = ()) -> dict[str, str]:
    """Return what the engine itself keeps in a job's metadata."""
    return {
        **({VERSION: str(version)} if version > 1 else {}),
        **({} if turn is None else turn.metadata()),
        **({AFTER: ",".join(map(str, after))} if after else {}),
    }


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
    nodes: Sequence[Node], wanted: Sequence[int] = (0,)
) -> tuple[LiteralString, dict[str, object]]:
    """Return the statement that writes jobs, and gives the ids of those that are `wanted`.

    An id is null if its job was not written, since the one that it follows was not.
    """
    (first, *others) = nodes
    if not others and first.unique is None and not first.is_placed:
        # The table says what is None.
        columns: list[LiteralString] = [
            name for name, value in first.values.items() if value is not None
        ]
        marks: LiteralString = ", ".join([f"%({name})s" for name in columns])
        own: dict[str, object] = {name: first.values[name] for name in columns}
        return f"{insert_head(columns)} VALUES ({marks}) RETURNING id", own
    if len(nodes) > _MOST:
        raise ValueError(f"{_MOST} jobs at most are written in one statement")
    arms: list[LiteralString] = []
    ids: list[LiteralString] = []
    params: dict[str, object] = {}
    for place, node in enumerate(nodes):
        arm = _Arm(_literal(place), node, _relation(nodes, node.parent))
        arms += arm.texts()
        params |= arm.params()
        # Every arm is read, in order: what is not read is written last to first.
        ids.append(arm.id())
    with_arms: LiteralString = ", ".join(arms)
    chosen: LiteralString = ", ".join([f"id_{_literal(place)}" for place in wanted])
    statement: LiteralString = (
        f"WITH {with_arms}, written AS MATERIALIZED (SELECT {', '.join(ids)})\n"  # noqa: S608
        f"SELECT {chosen} FROM written"
    )
    return statement, params


def _relation(nodes: Sequence[Node], place: int | None) -> LiteralString:
    """Return the relation that has the id of the job at a place, for what follows it.

    Where the first is there already, so is what followed it; what follows a later one waits for
    the job that is there.
    """
    if place is None:
        return ""
    is_own = place > 0 and nodes[place].unique is not None
    return f"own_{_literal(place)}" if is_own else f"job_{_literal(place)}"


@frozen
class _Arm:
    """The arms of a job: who has its key, for whom it waits, and its row."""

    place: LiteralString
    node: Node
    parent: LiteralString

    @property
    def _columns(self) -> list[LiteralString]:
        return [name for name, value in self.node.values.items() if value is not None]

    def texts(self) -> list[LiteralString]:
        node, place = self.node, self.place
        found: list[LiteralString] = []
        sources: list[LiteralString] = []
        own_id: LiteralString = "NULL"
        where: LiteralString = ""
        if node.unique is not None:
            found.append(self._key())
            sources.append(f"key_{place} AS key")
            own_id = "key.job_id"
            where = " WHERE key.is_new"
        columns = self._columns
        values: list[LiteralString] = [f"%({name}_{place})s::{_TYPES[name]}" for name in columns]
        if node.is_placed:
            if node.parent is not None:
                sources.append(f"{self.parent} AS parent")
                at = columns.index("metadata")
                values[at] = f"{values[at]} || jsonb_build_object('after', parent.id::text)"
            parent: LiteralString = "NULL" if node.parent is None else "parent.id"
            sources.append(
                f"forge.jobs_place(job_id => {own_id}, sequence => %(turn_{place})s::text, "
                f"after => %(after_{place})s::bigint[], needs => %(needs_{place})s::text, "
                f"parent => {parent}) AS place"
            )
            columns[:0] = ["id", "waits"]
            values[:0] = ["place.id", "place.waits"]
        elif node.unique is not None:
            columns.insert(0, "id")
            values.insert(0, "key.job_id")
        source: LiteralString = f" FROM {', '.join(sources)}" if sources else ""
        found.append(
            f"job_{place} AS (\n    {insert_head(columns)}\n"
            f"    SELECT {', '.join(values)}{source}{where}\n    RETURNING id\n)"
        )
        if node.unique is not None:
            found.append(
                f"own_{place} AS (SELECT id FROM job_{place} UNION ALL "  # noqa: S608 -- as above
                f"SELECT job_id FROM key_{place} WHERE NOT is_new)"
            )
        return found

    def _key(self) -> LiteralString:
        node, place = self.node, self.place
        given: LiteralString = ", ".join(
            [f"{name} => %({value}_{place})s::{of}" for name, value, of in _KEY]
        )
        if node.parent is None:
            source: LiteralString = f"forge.jobs_unique(kind => %(kind_{place})s, {given}) AS key"
        else:
            # No key is taken for a job that is not written: the call needs its parent.
            source = (
                f"{self.parent} AS parent, forge.jobs_unique(kind => CASE "
                f"WHEN parent.id > 0 THEN %(kind_{place})s END, {given}) AS key"
            )
        return f"key_{place} AS MATERIALIZED (SELECT key.* FROM {source})"  # noqa: S608 -- as above

    def id(self) -> LiteralString:
        relation: LiteralString = "job" if self.node.unique is None else "own"
        return f"(SELECT id FROM {relation}_{self.place}) AS id_{self.place}"  # noqa: S608 -- as above

    def params(self) -> dict[str, object]:
        node = self.node
        found: dict[str, object] = {name: node.values[name] for name in self._columns}
        if node.is_placed:
            found["turn"] = None if node.turn is None else node.turn.name
            found["after"] = list(node.after)
            found["needs"] = node.needs
        if (unique := node.unique) is not None:
            found |= {
                "key_tenant_id": node.values["tenant_id"],
                "key_by": list(unique.by) or None,
                "key_until": unique.until,
                "key_period": unique.period,
                "key_by_queue": unique.queue,
                "key_replaced": list(unique.replace),
                "key_run_at": node.values["run_at"],
                "key_priority": node.values["priority"],
            }
        return {f"{name}_{self.place}": value for name, value in found.items()}


def _literal(place: int) -> LiteralString:
    # Digits are as good as a literal.
    digits: tuple[LiteralString, ...] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    text: LiteralString = "".join([digits[int(digit)] for digit in str(place)])
    return text
