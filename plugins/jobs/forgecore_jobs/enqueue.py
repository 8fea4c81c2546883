"""Enqueue a job on the caller's connection, and name what keeps it from being written."""

import functools
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, LiteralString, ParamSpec, TypeVar, cast
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
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
)
from forgecore.runtime.errors import translate
from forgecore_jobs.arguments import check, encode, keys_of
from forgecore_jobs.bulk import IDS, Rows
from forgecore_jobs.insert import Call, columns_of, insert_of
from forgecore_jobs.job import VERSION, JobArgs, version_of
from forgecore_jobs.sql import TABLE
from forgecore_jobs.unique import Unique
from forgecore_jobs.unwrap import Wrapping, psycopg_async_of, psycopg_of
from forgecore_jobs.wiring import Wiring, project_wiring

P = ParamSpec("P")
R = TypeVar("R")
Source = Database | Transaction | Connection[Any] | Wrapping
"""Where a job is written: ours, psycopg's, or SQLAlchemy's and Django's with psycopg 3 below."""
AsyncSource = AsyncDatabase | AsyncTransaction | AsyncConnection[Any] | Wrapping
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
) -> int:
    """Write a job in whatever transaction `source` is in, and return its id.

    What the call leaves out comes from the kind's hook if it has exactly one, else from
    [jobs]. Where `unique` finds another job, that one's id is returned and nothing written.
    EnqueueError names the kind; nothing was sent then, or nothing is committed.
    """
    statement, params = _insert(args, Call(queue, run_at, priority, max_attempts, unique))
    with _named((args.kind,)):
        with _lent(source) as conn, Cursor(conn, row_factory=tuple_row) as cursor:
            return _id(cursor.execute(statement, params, prepare=True).fetchone())


async def enqueue_async(
    source: AsyncSource,
    args: JobArgs,
    *,
    queue: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    unique: Unique | None = None,
) -> int:
    """Write a job in whatever transaction `source` is in, and return its id; see `enqueue`."""
    statement, params = _insert(args, Call(queue, run_at, priority, max_attempts, unique))
    with _named((args.kind,)):
        async with _lent_async(source) as conn:
            async with AsyncCursor(conn, row_factory=tuple_row) as cursor:
                await cursor.execute(statement, params, prepare=True)
                return _id(await cursor.fetchone())


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
    rows = _rows(args, Call(queue, run_at, priority, max_attempts))
    if not rows:
        return []
    with _named(rows.kinds):
        with _lent(source) as conn, Cursor(conn, row_factory=tuple_row) as cursor:
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
    rows = _rows(args, Call(queue, run_at, priority, max_attempts))
    if not rows:
        return []
    with _named(rows.kinds):
        async with _lent_async(source) as conn:
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
    return _values(args, Call(None, None, None, None), project_wiring())


def _insert(args: JobArgs, call: Call) -> tuple[LiteralString, dict[str, object]]:
    check(args)
    if fault := call.fault():
        raise EnqueueError([args.kind], fault)
    wiring = project_wiring()
    unique = wiring.unique_of(args.kind) if call.unique is None else call.unique
    if unique is not None:
        if not isinstance(unique, Unique):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("unique takes forgecore_jobs.Unique(...)")
        known = {name for name, _ in keys_of(cast("Any", type(args)))}
        if missing := ", ".join(f"`{name}`" for name in unique.by if name not in known):
            raise EnqueueError([args.kind], f"unique by {missing}, which it does not have")
    return insert_of(_values(args, call, wiring), unique)


def _values(args: JobArgs, call: Call, wiring: Wiring) -> dict[LiteralString, object]:
    return {
        **columns_of(args.kind, call, wiring),
        "args": encode(args),
        "tenant_id": _tenant_of(args),
        "metadata": Jsonb(_metadata(args, wiring)),
    }


def _metadata(args: JobArgs, wiring: Wiring) -> dict[str, str]:
    version = version_of(cast("Any", type(args)))
    own = {VERSION: str(version)} if version > 1 else {}
    return {**wiring.metadata(), **own}


def _tenant_of(args: JobArgs) -> UUID | None:
    tenant: UUID | None = getattr(args, "tenant_id", current_tenant_or_none())
    return tenant


def _rows(args: Iterable[JobArgs], call: Call) -> Rows:
    jobs = list(args)
    for one in jobs:
        check(one)
    rows = Rows(tuple(dict.fromkeys(one.kind for one in jobs)), call.run_at is not None)
    if fault := call.fault():
        raise EnqueueError(rows.kinds, fault)
    wiring = project_wiring()
    for kind in rows.kinds:
        if wiring.unique_of(kind) is not None:
            raise EnqueueError([kind], "it is unique: enqueue() writes one at a time")
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


@contextmanager
def _lent(source: Source) -> Generator[Connection[Any]]:
    if isinstance(source, Database | Transaction):
        with source.borrow() as conn:
            yield conn
        return
    try:
        yield psycopg_of(source)
    except BaseException:
        if getattr(source, "in_atomic_block", False):
            # Django does not see what failed below it, and would commit what is lost.
            cast("Any", source).needs_rollback = True
        raise


@asynccontextmanager
async def _lent_async(source: AsyncSource) -> AsyncGenerator[AsyncConnection[Any]]:
    if isinstance(source, AsyncDatabase | AsyncTransaction):
        async with source.borrow() as conn:
            yield conn
    else:
        yield await psycopg_async_of(source)


def _id(row: TupleRow | None) -> int:
    if row is None:
        raise SuppressedError("job")
    return int(row[0])


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
            name = error.diag.constraint_name or error.diag.column_name or "a rule"
            raise EnqueueError(kinds, f"{TABLE} refuses it ({name})") from error
        raise
    except psycopg.Error as error:
        if (known := translate(error, {}, resource="job")) is None:
            raise
        raise known from error
