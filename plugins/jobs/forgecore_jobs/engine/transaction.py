"""The transaction of a job: it begins at its first statement, and completes the job."""

from collections.abc import AsyncGenerator, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)

from psycopg import AsyncConnection, Connection
from psycopg.rows import TupleRow

from forgecore.runtime import AsyncDatabase, AsyncTransaction, Database, Transaction
from forgecore_jobs import sql
from forgecore_jobs.engine.store import Settled, finish_params


class LeaseLostError(Exception):
    """Another process runs the job: what this run wrote is rolled back."""


class JobTransaction(Transaction):
    """What `job.tx` is in a synchronous worker."""

    def __init__(self, database: Database) -> None:
        super().__init__(None, None)
        self._database = database
        self._open: AbstractContextManager[Transaction] | None = None

    @property
    def connection(self) -> Connection[TupleRow]:
        """The connection of the transaction, which begins here."""
        if self._conn is None:
            self._open = self._database.transaction()
            self._conn = self._open.__enter__().connection
        return self._conn

    @contextmanager
    def borrow(self) -> Generator[Connection[TupleRow]]:
        """Lend the transaction's connection."""
        yield self.connection

    @property
    def is_open(self) -> bool:
        """Whether a statement was run through it."""
        return self._open is not None

    def complete(self, settled: Settled) -> None:
        """Commit what was written together with the job's completion.

        LeaseLostError, and nothing is written, if the claim does not hold any more.
        """
        try:
            row = self.connection.execute(sql.FINISH, finish_params([settled])).fetchone()
        except BaseException as error:
            self.undo(error)
            raise
        if row is None:
            lost = LeaseLostError()
            self.undo(lost)
            raise lost
        if self._open is not None:
            opened, self._open = self._open, None
            opened.__exit__(None, None, None)

    def undo(self, error: BaseException) -> None:
        """Roll back what was written."""
        if self._open is not None:
            opened, self._open = self._open, None
            try:
                opened.__exit__(type(error), error, error.__traceback__)
            except BaseException as other:
                if other is not error:
                    raise


class AsyncJobTransaction(AsyncTransaction):
    """What `job.tx` is in an `async def` worker."""

    def __init__(self, database: AsyncDatabase) -> None:
        super().__init__(None, None)
        self._database = database
        self._open: AbstractAsyncContextManager[AsyncTransaction] | None = None

    @asynccontextmanager
    async def borrow(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """Lend the transaction's connection; the transaction begins here."""
        if self._conn is None:
            self._open = self._database.transaction()
            self._conn = (await self._open.__aenter__()).connection
        yield self._conn

    @property
    def is_open(self) -> bool:
        """Whether a statement was run through it."""
        return self._open is not None

    async def complete(self, settled: Settled) -> None:
        """Commit what was written together with the job's completion; see `JobTransaction`."""
        try:
            async with self.borrow() as conn:
                cursor = await conn.execute(sql.FINISH, finish_params([settled]))
                row = await cursor.fetchone()
        except BaseException as error:
            await self.undo(error)
            raise
        if row is None:
            lost = LeaseLostError()
            await self.undo(lost)
            raise lost
        if self._open is not None:
            opened, self._open = self._open, None
            await opened.__aexit__(None, None, None)

    async def undo(self, error: BaseException) -> None:
        """Roll back what was written."""
        if self._open is not None:
            opened, self._open = self._open, None
            try:
                await opened.__aexit__(type(error), error, error.__traceback__)
            except BaseException as other:
                if other is not error:
                    raise
