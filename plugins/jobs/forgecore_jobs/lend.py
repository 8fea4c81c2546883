"""Where jobs are written: a connection of ours, of psycopg's, or of SQLAlchemy's and Django's."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from psycopg import AsyncConnection, Connection

from forgecore.runtime import AsyncDatabase, AsyncTransaction, Database, Transaction
from forgecore_jobs.unwrap import Wrapping, psycopg_async_of, psycopg_of

Source = Database | Transaction | Connection[Any] | Wrapping
"""Ours, psycopg's, or SQLAlchemy's and Django's with psycopg 3 below."""
AsyncSource = AsyncDatabase | AsyncTransaction | AsyncConnection[Any] | Wrapping


@contextmanager
def lent(source: Source) -> Generator[Connection[Any]]:
    """Lend the connection of a source, in whatever transaction it is."""
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
async def lent_async(source: AsyncSource) -> AsyncGenerator[AsyncConnection[Any]]:
    """Lend the connection of a source, in whatever transaction it is."""
    if isinstance(source, AsyncDatabase | AsyncTransaction):
        async with source.borrow() as conn:
            yield conn
    else:
        yield await psycopg_async_of(source)
