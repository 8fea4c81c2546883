"""Enqueue a job on the caller's connection, and name what keeps it from being written."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, ParamSpec, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.types.json import Jsonb

from forgecore.runtime import (
    AsyncDatabase,
    AsyncTransaction,
    Database,
    EnqueueError,
    NotMigratedError,
    Transaction,
    current_tenant_or_none,
)
from forgecore_jobs.arguments import to_json
from forgecore_jobs.job import JobArgs
from forgecore_jobs.settings import DEFAULT_QUEUE
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
        if isinstance(source, Connection):
            return _id(source.execute(statement, params, prepare=True).fetchone())
        with source.borrow() as conn:
            return _id(conn.execute(statement, params, prepare=True).fetchone())


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
        if isinstance(source, AsyncConnection):
            cursor = await source.execute(statement, params, prepare=True)
            return _id(await cursor.fetchone())
        async with source.borrow() as conn:
            cursor = await conn.execute(statement, params, prepare=True)
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
    if run_at is not None and run_at.utcoffset() is None:
        raise EnqueueError([args.kind], "run_at must have a time zone")
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


def _id(row: Any) -> int:  # noqa: ANN401 -- a row of whatever factory the connection has
    value: int = row["id"] if isinstance(row, dict) else row[0]
    return value


@contextmanager
def _named(kinds: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except NotMigratedError as error:
        if TABLE in str(error) or '"jobs"' in str(error):
            raise EnqueueError(kinds, _REMEDY) from error
        raise
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise EnqueueError(kinds, _REMEDY) from error
    except psycopg.IntegrityError as error:
        if (error.diag.schema_name, error.diag.table_name) == ("forge", "jobs"):
            name = error.diag.constraint_name or error.diag.column_name or "a rule"
            raise EnqueueError(kinds, f"{TABLE} refuses it ({name})") from error
        raise
