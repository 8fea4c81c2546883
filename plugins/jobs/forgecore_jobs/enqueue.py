"""Enqueue a job on the caller's connection, and name what keeps it from being written."""

import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, LiteralString, ParamSpec, TypeVar, cast
from uuid import UUID

import psycopg
from attrs import frozen
from psycopg import AsyncCursor, Cursor
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.json import Jsonb

from forgecore.runtime import (
    EnqueueError,
    NotMigratedError,
    SuppressedError,
    current_tenant_or_none,
)
from forgecore.runtime.errors import translate
from forgecore_jobs.arguments import check, encode
from forgecore_jobs.bulk import IDS, Rows
from forgecore_jobs.insert import Node, columns_of, fault_of, insert_of, metadata_of
from forgecore_jobs.job import JobArgs, version_of
from forgecore_jobs.lend import AsyncSource, Source, lent, lent_async
from forgecore_jobs.plain import keys_of
from forgecore_jobs.sequence import Failing, Turn
from forgecore_jobs.sql import TABLE
from forgecore_jobs.steps import Call, Following, Needs, Step, steps_of
from forgecore_jobs.unique import Unique
from forgecore_jobs.wiring import Wiring, project_wiring

P = ParamSpec("P")
R = TypeVar("R")
_NOT_MIGRATED: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)
_REMEDY: Final = f"the table {TABLE} is not as it must be: run `forgecore migrate up`"


def enqueue(
    source: Source,
    args: JobArgs,
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    unique: Unique | None = None,
    sequence: str | None = None,
    failing: Failing = "blocks",
    after: Sequence[int] = (),
    needs: Needs = "completed",
    on_success: Following = (),
    on_failure: Following = (),
) -> int:
    """Write a job in whatever transaction `source` is in, and return its id.

    What the call leaves out comes from the kind's hook if it has exactly one, else from
    [jobs]. Where `unique` finds another job, that one's id is returned and nothing written.
    Jobs of a `sequence` run one at a time, in the order of their commits; one that is `failing`
    blocks the others until it has ended, or passes them its turn. The job runs `after` other
    jobs have completed, or `needs="ended"`: have ended. `on_success` and `on_failure` are jobs
    that are written with this one and follow it. EnqueueError names the kind; nothing was sent
    then, or nothing is committed.
    """
    step = Step(
        args,
        queue=queue,
        run_at=run_at,
        priority=priority,
        max_attempts=max_attempts,
        unique=unique,
        sequence=sequence,
        failing=failing,
        after=after,
        needs=needs,
        on_success=on_success,
        on_failure=on_failure,
    )
    return enqueue_step(source, step)


async def enqueue_async(
    source: AsyncSource,
    args: JobArgs,
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    unique: Unique | None = None,
    sequence: str | None = None,
    failing: Failing = "blocks",
    after: Sequence[int] = (),
    needs: Needs = "completed",
    on_success: Following = (),
    on_failure: Following = (),
) -> int:
    """Write a job in whatever transaction `source` is in, and return its id; see `enqueue`."""
    step = Step(
        args,
        queue=queue,
        run_at=run_at,
        priority=priority,
        max_attempts=max_attempts,
        unique=unique,
        sequence=sequence,
        failing=failing,
        after=after,
        needs=needs,
        on_success=on_success,
        on_failure=on_failure,
    )
    return _only(await _written_async(source, _planned([step])))


def enqueue_step(source: Source, step: Step) -> int:
    """Write a job as a step says, and what follows it; return its id. See `enqueue`."""
    return _only(_written(source, _planned([step])))


def enqueue_chain(source: Source, steps: Sequence[JobArgs | Step]) -> list[int]:
    """Write jobs of which each runs when the one before has completed, and return their ids.

    One that fails for good cancels those behind it. Where the first is unique and there is
    another job, nothing is written, and only that one's id returned.
    """
    return _written(source, _planned(steps_of(steps)))


async def enqueue_chain_async(source: AsyncSource, steps: Sequence[JobArgs | Step]) -> list[int]:
    """Write jobs of which each runs when the one before has completed; see `enqueue_chain`."""
    return await _written_async(source, _planned(steps_of(steps)))


def enqueue_many(
    source: Source,
    args: Iterable[JobArgs],
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
) -> list[int]:
    """Write many jobs by COPY, all or none, and return their ids in the order of `args`."""
    call = Call(queue=queue, run_at=run_at, priority=priority, max_attempts=max_attempts)
    rows = _rows(args, call)
    if not rows:
        return []
    with _named(rows.kinds):
        with lent(source) as conn, Cursor(conn, row_factory=tuple_row) as cursor:
            ids = [row[0] for row in cursor.execute(IDS, (len(rows),)).fetchall()]
            with cursor.copy(rows.statement) as copy:
                for text in rows.texts(ids):
                    copy.write(text)
    return ids


async def enqueue_many_async(
    source: AsyncSource,
    args: Iterable[JobArgs],
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
) -> list[int]:
    """Write many jobs by COPY, all or none, and return their ids; see `enqueue_many`."""
    call = Call(queue=queue, run_at=run_at, priority=priority, max_attempts=max_attempts)
    rows = _rows(args, call)
    if not rows:
        return []
    with _named(rows.kinds):
        async with lent_async(source) as conn:
            async with AsyncCursor(conn, row_factory=tuple_row) as cursor:
                await cursor.execute(IDS, (len(rows),))
                ids = [row[0] for row in await cursor.fetchall()]
                async with cursor.copy(rows.statement) as copy:
                    for text in rows.texts(ids):
                        await copy.write(text)
    return ids


def enqueues(*kinds: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say which kinds an action enqueues: an error of the outbox then names them."""

    def decorate(action: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(action):
            waiting = cast("Callable[P, Awaitable[Any]]", action)

            @functools.wraps(action)
            async def wait(*args: P.args, **kwargs: P.kwargs) -> object:
                with _named(kinds):
                    return await waiting(*args, **kwargs)

            return cast("Callable[P, R]", wait)

        @functools.wraps(action)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with _named(kinds):
                return action(*args, **kwargs)

        return call

    return decorate


def row_of(args: JobArgs) -> dict[LiteralString, object]:
    """Return what the row of a job says; EnqueueError if it cannot be one."""
    check(args)
    return _values(args, Call(), project_wiring())


@frozen
class _Plan:
    """The jobs of a statement, and which of them the caller wants the ids of."""

    kinds: tuple[str, ...]
    nodes: Sequence[Node]
    wanted: Sequence[int]


def _planned(steps: Sequence[Step]) -> _Plan:
    """Return the plan of a chain, each step with what follows it."""
    if not steps:
        raise TypeError("a chain has at least one job")
    wiring = project_wiring()
    nodes: list[Node] = []
    wanted: list[int] = []
    kinds: list[str] = []

    def add(step: Step, parent: int | None, needs: Needs) -> int:
        nodes.append(_node(step, wiring, parent, needs))
        kinds.append(step.args.kind)
        place = len(nodes) - 1
        for follower, follows in step.followers():
            add(follower, place, follows)
        return place

    last: int | None = None
    for step in steps:
        last = add(step, last, "completed" if last is not None else step.needs)
        wanted.append(last)
    return _Plan(tuple(dict.fromkeys(kinds)), nodes, wanted)


def _node(step: Step, wiring: Wiring, parent: int | None, needs: Needs) -> Node:
    args = step.args
    check(args)
    if fault := fault_of(step):
        raise EnqueueError([args.kind], fault)
    if parent is not None and (step.after or step.needs != "completed"):
        raise EnqueueError([args.kind], "it follows a job, so it has neither `after` nor `needs`")
    unique = wiring.unique_of(args.kind) if step.unique is None else step.unique
    if unique is not None:
        if not isinstance(unique, Unique):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("unique takes forgecore_jobs.Unique(...)")
        known = {name for name, _ in keys_of(cast("Any", type(args)))}
        if missing := ", ".join(f"`{name}`" for name in unique.by if name not in known):
            raise EnqueueError([args.kind], f"unique by {missing}, which it does not have")
    turn = (
        wiring.turn_of(args.kind, getattr(args, "resource_id", None))
        if step.sequence is None
        else Turn(step.sequence, step.failing)
    )
    values = _values(args, step, wiring, turn)
    return Node(
        values=values, unique=unique, turn=turn, after=step.after, needs=needs, parent=parent
    )


def _written(source: Source, plan: _Plan) -> list[int]:
    statement, params = insert_of(plan.nodes, plan.wanted)
    with _named(plan.kinds):
        with lent(source) as conn, Cursor(conn, row_factory=tuple_row) as cursor:
            return _ids(cursor.execute(statement, params, prepare=True).fetchone())


async def _written_async(source: AsyncSource, plan: _Plan) -> list[int]:
    statement, params = insert_of(plan.nodes, plan.wanted)
    with _named(plan.kinds):
        async with lent_async(source) as conn:
            async with AsyncCursor(conn, row_factory=tuple_row) as cursor:
                await cursor.execute(statement, params, prepare=True)
                return _ids(await cursor.fetchone())


def _values(
    args: JobArgs, call: Call, wiring: Wiring, turn: Turn | None = None
) -> dict[LiteralString, object]:
    return {
        **columns_of(args.kind, call, wiring),
        "args": encode(args),
        "tenant_id": _tenant_of(args),
        "metadata": Jsonb(_metadata(args, wiring, turn, call.after)),
    }


def _metadata(
    args: JobArgs, wiring: Wiring, turn: Turn | None = None, after: Sequence[int] = ()
) -> dict[str, str]:
    version = version_of(cast("Any", type(args)))
    return {**wiring.metadata(), **metadata_of(version, turn, after)}


def _tenant_of(args: JobArgs) -> UUID | None:
    tenant: UUID | None = getattr(args, "tenant_id", current_tenant_or_none())
    return tenant


def _rows(args: Iterable[JobArgs], call: Call) -> Rows:
    jobs = list(args)
    for one in jobs:
        check(one)
    rows = Rows(tuple(dict.fromkeys(one.kind for one in jobs)), call.run_at is not None)
    if fault := fault_of(call):
        raise EnqueueError(rows.kinds, fault)
    wiring = project_wiring()
    for kind in rows.kinds:
        if wiring.unique_of(kind) is not None:
            raise EnqueueError([kind], "it is unique: enqueue() writes one at a time")
        if (known := wiring.defaults.get(kind)) is not None and known.sequence is not None:
            raise EnqueueError([kind], "it has a sequence: enqueue() writes one at a time")
    heads: dict[tuple[type, UUID | None], str] = {}
    for one in jobs:
        of = (type(one), _tenant_of(one))
        if (head := heads.get(of)) is None:
            # What plugins add is of the call, and the same for all jobs of a class.
            metadata = json.dumps(_metadata(one, wiring))
            columns = columns_of(one.kind, call, wiring)
            head = heads[of] = rows.head({**columns, "tenant_id": of[1], "metadata": metadata})
        rows.add(head, encode(one))
    return rows


def _ids(row: TupleRow | None) -> list[int]:
    if row is None or row[0] is None:
        raise SuppressedError("job")
    return [int(one) for one in row if one is not None]


def _only(ids: list[int]) -> int:
    (one,) = ids
    return one


@contextmanager
def _named(kinds: tuple[str, ...]) -> Generator[None]:
    try:
        yield
    except NotMigratedError as error:
        if "forge.job" in str(error) or 'of relation "jobs"' in str(error):
            raise EnqueueError(kinds, _REMEDY) from error
        raise
    except _NOT_MIGRATED as error:
        raise EnqueueError(kinds, _REMEDY) from error
    except psycopg.IntegrityError as error:
        if (error.diag.schema_name, error.diag.table_name) == ("forge", "jobs"):
            if error.diag.constraint_name == "after":
                raise EnqueueError(kinds, error.diag.message_primary or "") from error
            name = error.diag.constraint_name or error.diag.column_name or "a rule"
            raise EnqueueError(kinds, f"{TABLE} refuses it ({name})") from error
        raise
    except psycopg.Error as error:
        if (known := translate(error, {}, resource="job")) is None:
            raise
        raise known from error
