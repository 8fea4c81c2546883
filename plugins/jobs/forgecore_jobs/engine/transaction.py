"""The transaction of a job: it begins at its first statement, and completes the job."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, Connection, OperationalError
from psycopg.rows import TupleRow

from forgecore.runtime import (
    AsyncDatabase,
    AsyncTransaction,
    Database,
    DatabaseUnavailableError,
    Transaction,
)
from forgecore_jobs import sql
from forgecore_jobs.engine.store import Settled, again_params, finish_params
from forgecore_jobs.engine.watch import Run
from forgecore_jobs.job import Again

_AWAY: Final = (OperationalError, DatabaseUnavailableError)


_LONGEST_MS: Final = (1 << 31) - 1
_LIMIT: Final = "SELECT set_config('statement_timeout', %s, true)"


class LeaseLostError(Exception):
    """Another process runs the job: what this run wrote is rolled back."""


class CompletionUnsureError(Exception):
    """The connection went while the job's completion was written: it may be, or may not."""


class JobTransaction(Transaction):
    """What `job.tx` is in a synchronous worker.

    A thread of the worker's may be the first to use it, so it is no transaction that
    whoever uses the database would join.
    """

    def __init__(self, database: Database, run: Run) -> None:
        super().__init__(None, None)
        self._database = database
        self._run = run
        self._begun: AbstractContextManager[Transaction] | None = None
        self._ended = False
        self._turn = threading.Lock()

    @property
    def connection(self) -> Connection[TupleRow]:
        """The connection of the transaction, which begins here."""
        if self._conn is None and not self._ended:
            with self._run.shield(), self._turn:
                self._begin()
        return super().connection

    def raw(self) -> Connection[TupleRow] | None:
        """Return the connection if the transaction has begun."""
        return self._conn

    @contextmanager
    def borrow(self) -> Generator[Connection[TupleRow]]:
        """Lend the transaction's connection."""
        yield self.connection

    @property
    def is_open(self) -> bool:
        """Whether a statement was run through it."""
        return self._begun is not None

    def end(self) -> None:
        """Refuse every further use: the connection is another's by then."""
        with self._turn:
            self._ended = True
            super().end()

    def complete(self, settled: Settled) -> None:
        """Commit what was written together with the job's outcome.

        LeaseLostError, and nothing is written, if the claim does not hold any more.
        """
        try:
            if self._run.deadline is not None:
                self.connection.execute(_LIMIT, ("0",))
            row = self.connection.execute(*_written(settled), prepare=True).fetchone()
            if row is not None and self._begun is not None:
                begun, self._begun = self._begun, None
                begun.__exit__(None, None, None)
        except _AWAY as error:
            gone = self._conn is None or self._conn.closed
            self.undo(error)
            if gone or isinstance(error, DatabaseUnavailableError):
                raise CompletionUnsureError from error
            raise
        except BaseException as error:
            self.undo(error)
            raise
        if row is None:
            lost = LeaseLostError()
            self.undo(lost)
            raise lost

    def undo(self, error: BaseException) -> None:
        """Roll back what was written."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            try:
                begun.__exit__(type(error), error, error.__traceback__)
            except BaseException as other:
                if other is not error:
                    raise

    def _begin(self) -> None:
        if self._conn is not None or self._ended:
            return
        self._begun = self._database.begin()
        self._conn = self._begun.__enter__().connection
        if (limit := _limit(self._run)) is not None:
            self._conn.execute(_LIMIT, (limit,))


class AsyncJobTransaction(AsyncTransaction):
    """What `job.tx` is in an `async def` worker; see `JobTransaction`."""

    def __init__(self, database: AsyncDatabase, run: Run) -> None:
        super().__init__(None, None)
        self._database = database
        self._run = run
        self._begun: AbstractAsyncContextManager[AsyncTransaction] | None = None
        self._ended = False
        self._turn: asyncio.Lock | None = None

    @asynccontextmanager
    async def borrow(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """Lend the transaction's connection; the transaction begins here."""
        if self._turn is None:
            # Not before it is needed: most jobs never touch the transaction.
            self._turn = asyncio.Lock()
        async with self._turn:
            if self._conn is None and not self._ended:
                self._begun = self._database.begin()
                self._conn = (await self._begun.__aenter__()).connection
                if (limit := _limit(self._run)) is not None:
                    await self._conn.execute(_LIMIT, (limit,))
        yield self.connection

    @property
    def is_open(self) -> bool:
        """Whether a statement was run through it."""
        return self._begun is not None

    def end(self) -> None:
        """Refuse every further use: the connection is another's by then."""
        self._ended = True
        super().end()

    async def complete(self, settled: Settled) -> None:
        """Commit what was written together with the job's completion; see `JobTransaction`."""
        try:
            async with self.borrow() as conn:
                if self._run.deadline is not None:
                    await conn.execute(_LIMIT, ("0",))
                cursor = await conn.execute(*_written(settled), prepare=True)
                row = await cursor.fetchone()
            if row is not None and self._begun is not None:
                begun, self._begun = self._begun, None
                await begun.__aexit__(None, None, None)
        except _AWAY as error:
            gone = self._conn is None or self._conn.closed
            await self.undo(error)
            if gone or isinstance(error, DatabaseUnavailableError):
                raise CompletionUnsureError from error
            raise
        except BaseException as error:
            await self.undo(error)
            raise
        if row is None:
            lost = LeaseLostError()
            await self.undo(lost)
            raise lost

    async def undo(self, error: BaseException) -> None:
        """Roll back what was written."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            try:
                await begun.__aexit__(type(error), error, error.__traceback__)
            except BaseException as other:
                if other is not error:
                    raise


def _limit(run: Run) -> str | None:
    """Return what is left of the run's time, for statement_timeout: no query outlasts the job."""
    if run.left_s is None:
        return None
    return f"{min(max(1, round(run.left_s * 1000)), _LONGEST_MS)}ms"


def _written(settled: Settled) -> tuple[LiteralString, dict[str, Any]]:
    if isinstance(settled.outcome, Again):
        return sql.AGAIN, again_params([settled])
    return sql.FINISH, finish_params([settled])
