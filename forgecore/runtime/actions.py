"""What every generated actions class shares: running a statement and naming what went wrong."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, ClassVar, Final, Generic, LiteralString, TypeVar
from uuid import UUID

from attrs import AttrsInstance, frozen
from psycopg import AsyncConnection, Connection, ProgrammingError
from psycopg import Error as DriverError
from psycopg.rows import args_row

from forgecore.runtime.acting import current_tenant
from forgecore.runtime.columns import ModelT, Order
from forgecore.runtime.database import (
    AsyncDatabase,
    AsyncTransaction,
    Database,
    Transaction,
    known_constraints,
)
from forgecore.runtime.errors import (
    Constraints,
    InvalidCursorError,
    NotFoundError,
    StillReferencedError,
    SuppressedError,
    ValidationError,
    translate,
)
from forgecore.runtime.paging import Page, page_of
from forgecore.runtime.query import Params
from forgecore.runtime.rules import Check

InputT = TypeVar("InputT", bound=AttrsInstance)
_FAULTS: Final = (DriverError, UnicodeEncodeError)


@frozen
class Deletion:
    """What a delete found: whether the row was there and went, and who still refers to it."""

    found: bool
    done: bool
    referring: Sequence[str]


class ActionsBase(Generic[ModelT]):
    """What the two flavours of one resource share."""

    _resource: ClassVar[str]
    _constraints: ClassVar[Constraints] = {}
    _model: type[ModelT]

    def __init_subclass__(cls) -> None:
        # A deferred constraint fails at COMMIT, where no actions class is at hand.
        known_constraints.update(cls._constraints)

    def _tenant(self) -> UUID:
        return current_tenant(self._resource)

    def _valid(self, data: InputT, validate: Callable[[InputT, Check], None]) -> InputT:
        check = Check()
        validate(data, check)
        check.done()
        return data

    def _found(self, record: ModelT | None) -> ModelT:
        if record is None:
            raise NotFoundError(f"there is no such {self._resource}")
        return record

    def _created(self, record: ModelT | None) -> ModelT:
        if record is None:
            raise SuppressedError(self._resource)
        return record

    def _deleted(self, deletion: Deletion) -> None:
        if not deletion.found:
            raise NotFoundError(f"there is no such {self._resource}")
        if deletion.referring:
            raise StillReferencedError(self._resource, deletion.referring)
        if not deletion.done:
            raise SuppressedError(self._resource)

    def _fault(self, error: DriverError | UnicodeEncodeError, *, deleting: bool) -> Exception:
        constraints = self._constraints
        known = translate(error, constraints, resource=self._resource, deleting=deleting)
        return known or error

    def _page_fault(self, error: DriverError | UnicodeEncodeError, after: str | None) -> Exception:
        fault = self._fault(error, deleting=False)
        if after is not None and isinstance(fault, ValidationError | ProgrammingError):
            return InvalidCursorError("this is no cursor of a list")
        return fault


class Actions(ActionsBase[ModelT]):
    """Base of the synchronous actions of one resource.

    `source` is a database (each action then takes a connection of its pool, or joins
    the open transaction), a transaction, or a psycopg connection, whose owner commits.
    """

    def __init__(self, source: Database | Transaction | Connection[Any]) -> None:
        self._borrow: Callable[[], AbstractContextManager[Connection[Any]]]
        if isinstance(source, Connection):
            lent = nullcontext(source)
            self._borrow = lambda: lent
        else:
            self._borrow = source.borrow

    def _one(self, query: LiteralString, params: Params) -> ModelT | None:
        try:
            with self._borrow() as conn, conn.cursor(row_factory=args_row(self._model)) as cursor:
                return cursor.execute(query, params, prepare=True).fetchone()
        except _FAULTS as error:
            raise self._fault(error, deleting=False) from error

    def _page(
        self,
        statement: tuple[LiteralString, Sequence[object]],
        order: Order[ModelT],
        limit: int,
        after: str | None,
    ) -> Page[ModelT]:
        try:
            with self._borrow() as conn, conn.cursor(row_factory=args_row(self._model)) as cursor:
                rows = cursor.execute(*statement, prepare=True).fetchall()
        except _FAULTS as error:
            raise self._page_fault(error, after) from error
        return page_of(rows, order, limit)

    def _delete(self, query: LiteralString, params: Params) -> None:
        try:
            with self._borrow() as conn, conn.cursor(row_factory=args_row(Deletion)) as cursor:
                deletion = cursor.execute(query, params, prepare=True).fetchone()
        except _FAULTS as error:
            raise self._fault(error, deleting=True) from error
        self._deleted(deletion or Deletion(found=False, done=False, referring=()))


class AsyncActions(ActionsBase[ModelT]):
    """Base of the asynchronous actions of one resource; see `Actions`."""

    def __init__(self, source: AsyncDatabase | AsyncTransaction | AsyncConnection[Any]) -> None:
        self._borrow: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
        if isinstance(source, AsyncConnection):
            lent = nullcontext(source)
            self._borrow = lambda: lent
        else:
            self._borrow = source.borrow

    async def _one(self, query: LiteralString, params: Params) -> ModelT | None:
        try:
            async with self._borrow() as conn:
                async with conn.cursor(row_factory=args_row(self._model)) as cursor:
                    await cursor.execute(query, params, prepare=True)
                    return await cursor.fetchone()
        except _FAULTS as error:
            raise self._fault(error, deleting=False) from error

    async def _page(
        self,
        statement: tuple[LiteralString, Sequence[object]],
        order: Order[ModelT],
        limit: int,
        after: str | None,
    ) -> Page[ModelT]:
        try:
            async with self._borrow() as conn:
                async with conn.cursor(row_factory=args_row(self._model)) as cursor:
                    await cursor.execute(*statement, prepare=True)
                    rows = await cursor.fetchall()
        except _FAULTS as error:
            raise self._page_fault(error, after) from error
        return page_of(rows, order, limit)

    async def _delete(self, query: LiteralString, params: Params) -> None:
        try:
            async with self._borrow() as conn:
                async with conn.cursor(row_factory=args_row(Deletion)) as cursor:
                    await cursor.execute(query, params, prepare=True)
                    deletion = await cursor.fetchone()
        except _FAULTS as error:
            raise self._fault(error, deleting=True) from error
        self._deleted(deletion or Deletion(found=False, done=False, referring=()))
