"""Pools, connections and transactions, sync and async.

A transaction joins: inside `db.transaction()` the same thread or task that uses `db`
works in that transaction, and a further `transaction()` is a savepoint.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from forgecore.location import find_project
from forgecore.runtime.errors import (
    DatabaseUnavailableError,
    TransactionAbortedError,
    TransactionEndedError,
    translate,
)
from forgecore.runtime.settings import DatabaseSettings, read_section

Values = Sequence[object] | Mapping[str, object] | None
known_constraints: Final[dict[str, tuple[str, ...]]] = {}
"""The constraints of every imported actions class: what a failing COMMIT is named by."""

_PREPARED_MAX: Final = 1000
_CONNECT_TIMEOUT_S: Final = 10
_POOL_TIMEOUT_S: Final = 30.0
_UNAVAILABLE: Final = "no database answers: start it, or set FORGE_DATABASE_URL"


class Transaction:
    """An open transaction. It is accepted wherever a connection is."""

    def __init__(self, conn: Connection[TupleRow] | None, owner: object, depth: int = 0) -> None:
        self._conn: Connection[TupleRow] | None = conn
        self._depth = depth
        self.owner = owner

    @property
    def connection(self) -> Connection[TupleRow]:
        """The connection that the transaction is open on."""
        if self._conn is None:
            raise TransactionEndedError
        return self._conn

    @contextmanager
    def borrow(self) -> Generator[Connection[TupleRow]]:
        """Lend the transaction's connection."""
        yield self.connection

    def execute(self, query: LiteralString, params: Values = None) -> Cursor[TupleRow]:
        """Run a statement in the transaction and return psycopg's cursor."""
        return self.connection.execute(query, params)

    @contextmanager
    def transaction(self) -> Generator["Transaction"]:
        """Open a savepoint: an error that leaves the block undoes the block alone."""
        conn = self.connection
        name: LiteralString = "forge_" + "i" * (self._depth + 1)
        conn.execute(f"SAVEPOINT {name}")
        inner = Transaction(conn, self.owner, self._depth + 1)
        try:
            yield inner
            _check_commit(conn)
        except BaseException:
            with suppress(psycopg.Error):
                conn.execute(f"ROLLBACK TO {name}").connection.execute(f"RELEASE {name}")
            raise
        else:
            conn.execute(f"RELEASE {name}")
        finally:
            inner.end()

    @property
    def has_ended(self) -> bool:
        """Whether the block of the transaction was left."""
        return self._conn is None

    def end(self) -> None:
        """Refuse every further use."""
        self._conn = None


class AsyncTransaction:
    """An open transaction of an AsyncDatabase. It is accepted wherever a connection is."""

    def __init__(
        self, conn: AsyncConnection[TupleRow] | None, owner: object, depth: int = 0
    ) -> None:
        self._conn: AsyncConnection[TupleRow] | None = conn
        self._depth = depth
        self.owner = owner

    @property
    def connection(self) -> AsyncConnection[TupleRow]:
        """The connection that the transaction is open on."""
        if self._conn is None:
            raise TransactionEndedError
        return self._conn

    @asynccontextmanager
    async def borrow(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """Lend the transaction's connection."""
        yield self.connection

    async def execute(self, query: LiteralString, params: Values = None) -> AsyncCursor[TupleRow]:
        """Run a statement in the transaction and return psycopg's cursor."""
        async with self.borrow() as conn:
            return await conn.execute(query, params)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator["AsyncTransaction"]:
        """Open a savepoint: an error that leaves the block undoes the block alone."""
        async with self.borrow() as conn:
            pass
        name: LiteralString = "forge_" + "i" * (self._depth + 1)
        await conn.execute(f"SAVEPOINT {name}")
        inner = AsyncTransaction(conn, self.owner, self._depth + 1)
        try:
            yield inner
            _check_commit(conn)
        except BaseException:
            with suppress(psycopg.Error):
                await conn.execute(f"ROLLBACK TO {name}")
                await conn.execute(f"RELEASE {name}")
            raise
        else:
            await conn.execute(f"RELEASE {name}")
        finally:
            inner.end()

    @property
    def has_ended(self) -> bool:
        """Whether the block of the transaction was left."""
        return self._conn is None

    def end(self) -> None:
        """Refuse every further use."""
        self._conn = None


_open: ContextVar[tuple[tuple[object, Transaction | AsyncTransaction], ...]] = ContextVar(
    "forgecore_open", default=()
)


class Database:
    """A pool of connections to one database. `connect()` makes it."""

    def __init__(
        self, url: str, settings: DatabaseSettings, *, timeout_s: float = _POOL_TIMEOUT_S
    ) -> None:
        self._most = settings.pool
        self._timeout_s = timeout_s
        self._pool: ConnectionPool[Connection[TupleRow]] = ConnectionPool(
            url,
            min_size=0,
            max_size=settings.pool,
            timeout=timeout_s,
            kwargs=_connection_options(settings),
            configure=_configure,
            open=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> Self:
        """Start the pool's threads. `connect()` has done it."""
        self._pool.open()
        return self

    def close(self) -> None:
        """Close every connection of the pool."""
        self._pool.close()

    @contextmanager
    def borrow(self) -> Generator[Connection[TupleRow]]:
        """Lend a connection: the open transaction's, or one of the pool in autocommit."""
        if (joined := self._joined()) is not None:
            yield joined.connection
            return
        with self._checked_out() as conn:
            yield conn

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """Open a transaction, or a savepoint in the one that is open.

        Leaving the block commits. TransactionAbortedError if the server made a ROLLBACK
        of it, since a statement had failed and the error was swallowed.
        """
        if (joined := self._joined()) is not None:
            with joined.transaction() as inner, _opened(self, inner):
                yield inner
            return
        with self.begin() as tx, _opened(self, tx):
            yield tx

    @contextmanager
    def begin(self) -> Generator[Transaction]:
        """Open a transaction of its own: it joins none, and nobody joins it."""
        with self._begun() as conn:
            tx = Transaction(conn, _owner())
            try:
                yield tx
                _check_commit(conn)
            except BaseException:
                with suppress(psycopg.Error):
                    conn.execute("ROLLBACK")
                raise
            else:
                try:
                    _check_answer(conn.execute("COMMIT").statusmessage)
                except psycopg.Error as error:
                    raise _known(error) from error
            finally:
                tx.end()

    def _joined(self) -> Transaction | None:
        tx = _joined(self)
        return tx if isinstance(tx, Transaction) else None

    @contextmanager
    def _begun(self) -> Generator[Connection[TupleRow]]:
        # After a restart of the server every idle connection of the pool is dead. Nothing has
        # been done before BEGIN, so another one is as good.
        for left in range(self._most, -1, -1):
            with self._checked_out() as conn:
                try:
                    conn.execute("BEGIN")
                except psycopg.OperationalError as error:
                    if left and conn.broken:
                        continue
                    raise _known(error) from error
                yield conn
                return

    @contextmanager
    def _checked_out(self) -> Generator[Connection[TupleRow]]:
        conn = None
        deadline = time.monotonic() + self._timeout_s
        while conn is None:
            left = deadline - time.monotonic()
            try:
                # In slices: the pool tries a server that was away for long only for a new caller.
                conn = self._pool.getconn(min(left, _POOL_TIMEOUT_S))
            except (PoolTimeout, PoolClosed) as error:
                if isinstance(error, PoolClosed) or left <= _POOL_TIMEOUT_S:
                    raise DatabaseUnavailableError(str(error)) from error
        try:
            yield conn
        finally:
            self._pool.putconn(conn)


class AsyncDatabase:
    """A pool of connections to one database for asyncio. `connect_async()` makes it."""

    def __init__(
        self, url: str, settings: DatabaseSettings, *, timeout_s: float = _POOL_TIMEOUT_S
    ) -> None:
        self._most = settings.pool
        self._timeout_s = timeout_s
        self._url = url
        self._pool: AsyncConnectionPool[AsyncConnection[TupleRow]] = AsyncConnectionPool(
            url,
            min_size=0,
            max_size=settings.pool,
            timeout=timeout_s,
            kwargs=_connection_options(settings),
            configure=_configure_async,
            open=False,
        )

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> Self:
        """Reach the server once and start the pool; DatabaseUnavailableError if none answers."""
        try:
            probe = await AsyncConnection.connect(self._url, connect_timeout=_CONNECT_TIMEOUT_S)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError(_UNAVAILABLE) from error
        await probe.close()
        await self._pool.open()
        return self

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self._pool.close()

    @asynccontextmanager
    async def borrow(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """Lend a connection: the open transaction's, or one of the pool in autocommit."""
        if (joined := self._joined()) is not None:
            yield joined.connection
            return
        async with self._checked_out() as conn:
            yield conn

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncTransaction]:
        """Open a transaction, or a savepoint in the one that is open; see `Database`."""
        if (joined := self._joined()) is not None:
            async with joined.transaction() as inner:
                with _opened(self, inner):
                    yield inner
            return
        async with self.begin() as tx:
            with _opened(self, tx):
                yield tx

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncTransaction]:
        """Open a transaction of its own: it joins none, and nobody joins it."""
        async with self._begun() as conn:
            tx = AsyncTransaction(conn, _owner())
            try:
                yield tx
                _check_commit(conn)
            except BaseException:
                with suppress(psycopg.Error):
                    await conn.execute("ROLLBACK")
                raise
            else:
                try:
                    _check_answer((await conn.execute("COMMIT")).statusmessage)
                except psycopg.Error as error:
                    raise _known(error) from error
            finally:
                tx.end()

    def _joined(self) -> AsyncTransaction | None:
        tx = _joined(self)
        return tx if isinstance(tx, AsyncTransaction) else None

    @asynccontextmanager
    async def _begun(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        for left in range(self._most, -1, -1):
            async with self._checked_out() as conn:
                try:
                    await conn.execute("BEGIN")
                except psycopg.OperationalError as error:
                    if left and conn.broken:
                        continue
                    raise _known(error) from error
                yield conn
                return

    @asynccontextmanager
    async def _checked_out(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        conn = None
        deadline = time.monotonic() + self._timeout_s
        while conn is None:
            left = deadline - time.monotonic()
            try:
                conn = await self._pool.getconn(min(left, _POOL_TIMEOUT_S))
            except (PoolTimeout, PoolClosed) as error:
                if isinstance(error, PoolClosed) or left <= _POOL_TIMEOUT_S:
                    raise DatabaseUnavailableError(str(error)) from error
        try:
            yield conn
        finally:
            await self._pool.putconn(conn)


def connect(url: str | None = None) -> Database:
    """Open a pool to `url`, or to the database that forge.toml and the environment name.

    The embedded server is found by the address it left; this starts nothing.
    DatabaseUnavailableError if no server answers.
    """
    settings = read_section(DatabaseSettings, "database")
    target = url or database_url(settings)
    try:
        Connection.connect(target, connect_timeout=_CONNECT_TIMEOUT_S).close()
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(_UNAVAILABLE) from error
    return Database(target, settings).open()


def connect_async(url: str | None = None) -> AsyncDatabase:
    """Make a pool for asyncio; `async with` opens it and reaches the server. See `connect`."""
    settings = read_section(DatabaseSettings, "database")
    return AsyncDatabase(url or database_url(settings), settings)


def database_url(settings: DatabaseSettings) -> str:
    """Return the address of the database; the embedded server's is in `.forge/database.url`."""
    if settings.url != "embedded":
        return settings.url
    advice = "the embedded server does not run: `forgecore db start`"
    if (project := find_project()) is None:
        raise DatabaseUnavailableError(f"{advice}, in the folder of forge.toml")
    try:
        return (project / ".forge" / "database.url").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DatabaseUnavailableError(advice) from error


def _connection_options(settings: DatabaseSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"autocommit": True, "connect_timeout": _CONNECT_TIMEOUT_S}
    if not settings.prepare:
        options["prepare_threshold"] = None
    return options


def _configure(conn: Connection[TupleRow]) -> None:
    conn.prepared_max = _PREPARED_MAX


async def _configure_async(conn: AsyncConnection[TupleRow]) -> None:
    conn.prepared_max = _PREPARED_MAX


def _owner() -> object:
    """Return who runs: the task, or the thread outside of any."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.get_ident()


def _joined(database: object) -> Transaction | AsyncTransaction | None:
    stack = _open.get()
    if not stack:
        return None
    # Tasks and `asyncio.to_thread` inherit the context, but must not share the connection.
    owner = _owner()
    for source, tx in reversed(stack):
        if source is database and tx.owner == owner and not tx.has_ended:
            return tx
    return None


@contextmanager
def _opened(database: object, tx: Transaction | AsyncTransaction) -> Generator[None]:
    token = _open.set((*_open.get(), (database, tx)))
    try:
        yield
    finally:
        _open.reset(token)


def _check_commit(conn: Connection[TupleRow] | AsyncConnection[TupleRow]) -> None:
    if conn.info.transaction_status == TransactionStatus.INERROR:
        raise TransactionAbortedError


def _check_answer(answer: str | None) -> None:
    if answer != "COMMIT":
        raise TransactionAbortedError


def _known(error: psycopg.Error) -> Exception:
    return translate(error, known_constraints) or error
