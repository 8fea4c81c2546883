"""Enqueue a job on the caller's connection, and name what keeps it from being written."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any, LiteralString, ParamSpec, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.json import Jsonb

from forgecore.runtime import (
    AsyncDatabase,
    AsyncTransaction,
    Database,
    EnqueueError,
    NotMigratedError,
    SuppressedError,
    Transaction,
    current_tenant_or_none,
    rules,
)
from forgecore.runtime.errors import translate
from forgecore.runtime.settings import read_section
from forgecore_jobs.arguments import to_json
from forgecore_jobs.job import JobArgs
from forgecore_jobs.settings import DEFAULT_QUEUE, JobsSettings
from forgecore_jobs.sql import TABLE, insert_head
from forgecore_jobs.wiring import Defaults, project_wiring

P = ParamSpec("P")
R = TypeVar("R")
_REMEDY = f"the table {TABLE} is not as it must be: run `forgecore migrate up`"


def enqueue(
    source: Database | Transaction | Connection[Any],
    args: JobArgs,
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
) -> int:
    """Write a job in whatever transaction `source` is in, and return its id.

    What the call leaves out comes from the kind's hook if it has exactly one, else from
    [jobs]. EnqueueError names the kind; nothing was sent then, or nothing is committed.
    """
    statement, params = _insert(args, queue, run_at, priority, max_attempts)
    with _named((args.kind,)):
        lent = nullcontext(source) if isinstance(source, Connection) else source.borrow()
        with lent as conn, conn.cursor(row_factory=tuple_row) as cursor:
            return _id(cursor.execute(statement, params, prepare=True).fetchone())


async def enqueue_async(
    source: AsyncDatabase | AsyncTransaction | AsyncConnection[Any],
    args: JobArgs,
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
) -> int:
    """Write a job in whatever transaction `source` is in, and return its id; see `enqueue`."""
    statement, params = _insert(args, queue, run_at, priority, max_attempts)
    with _named((args.kind,)):
        lent = nullcontext(source) if isinstance(source, AsyncConnection) else source.borrow()
        async with lent as conn:
            async with conn.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(statement, params, prepare=True)
                return _id(await cursor.fetchone())


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


def _insert(
    args: JobArgs,
    queue: str | None,
    run_at: datetime | None,
    priority: int | None,
    max_attempts: int | None,
) -> tuple[LiteralString, dict[str, object]]:
    wiring = project_wiring()
    known = wiring.defaults.get(args.kind, Defaults(queue=DEFAULT_QUEUE))
    if fault := _fault_of_options(queue, run_at, priority, max_attempts):
        raise EnqueueError([args.kind], fault)
    given: dict[LiteralString, object] = {
        "kind": args.kind,
        "queue": queue or known.queue,
        "args": Jsonb(to_json(args)),
        "tenant_id": getattr(args, "tenant_id", current_tenant_or_none()),
        "metadata": Jsonb(dict(wiring.metadata())),
        "run_at": run_at,
        "priority": known.priority if priority is None else priority,
        "max_attempts": known.max_attempts if max_attempts is None else max_attempts,
        "timeout": known.timeout,
        "backoff": known.backoff,
    }
    columns: list[LiteralString] = [name for name, value in given.items() if value is not None]
    marks: LiteralString = ", ".join([f"%({name})s" for name in columns])
    statement = f"{insert_head(columns)} VALUES ({marks}) RETURNING id"
    return statement, {name: given[name] for name in columns}


def _id(row: TupleRow | None) -> int:
    if row is None:
        raise SuppressedError("job")
    return int(row[0])


def _fault_of_options(
    queue: str | None, run_at: object, priority: object, max_attempts: object
) -> str | None:
    if queue is not None and queue not in read_section(JobsSettings, "jobs").limits:
        return f"queue {queue!r} is not in [jobs.queues]"
    checks: tuple[tuple[str, object, rules.Rule], ...] = (
        ("run_at", run_at, rules.aware_datetime()),
        ("priority", priority, rules.integer(16, minimum=0, maximum=9)),
        ("max_attempts", max_attempts, rules.integer(32, minimum=1)),
    )
    for name, value, rule in checks:
        if value is not None and (fault := rule(value)) is not None:
            return f"{name} {fault[1]}"
    return None


@contextmanager
def _named(kinds: tuple[str, ...]) -> Generator[None]:
    try:
        yield
    except NotMigratedError as error:
        if TABLE in str(error) or 'of relation "jobs"' in str(error):
            raise EnqueueError(kinds, _REMEDY) from error
        raise
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise EnqueueError(kinds, _REMEDY) from error
    except psycopg.IntegrityError as error:
        if (error.diag.schema_name, error.diag.table_name) == ("forge", "jobs"):
            name = error.diag.constraint_name or error.diag.column_name or "a rule"
            raise EnqueueError(kinds, f"{TABLE} refuses it ({name})") from error
        raise
    except psycopg.Error as error:
        if (known := translate(error, {}, resource="job")) is None:
            raise
        raise known from error
