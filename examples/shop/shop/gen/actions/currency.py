"""Actions of the resource Currency: create, get, list, update, delete.

A record and what plugins write beside it are one statement, in whatever transaction
the connection is in.
"""

from typing import Final, LiteralString
from uuid import UUID

from forgecore.runtime import (
    Actions,
    ActionsBase,
    AsyncActions,
    Check,
    Condition,
    Constraints,
    Order,
    Page,
    Params,
    Updatable,
    given,
    list_query,
    partial,
    uuid7,
)
from forgecore_otel import traced

from shop.gen.models.currency import Currency, CurrencyColumns, CurrencyCreate, CurrencyUpdate
from shop.gen.validation.currency import RULES

CONSTRAINTS: Final[Constraints] = {
    "currencies_code_key": ("code",),
    "currencies_code_check": ("code",),
}

UPDATABLE: Final[Updatable] = {
    "code": ("code = %(code)s", "old.code IS DISTINCT FROM %(code)s"),
    "symbol": ("symbol = %(symbol)s", "old.symbol IS DISTINCT FROM %(symbol)s"),
}

SELECT: Final = """
SELECT
    id, code, symbol
FROM currencies
"""

GET: Final = f"""{SELECT}WHERE id = %(id)s"""

CREATE: Final = """
WITH new AS (
    INSERT INTO currencies (
        id, code, symbol
    )
    VALUES (
        %(id)s, %(code)s, %(symbol)s
    )
    RETURNING *
)
SELECT
    id, code, symbol
FROM new"""

UPDATE: Final = """
WITH old AS (
    SELECT * FROM currencies
    WHERE id = %(id)s
    FOR NO KEY UPDATE
), new AS (
    UPDATE currencies
    SET {assignments}
    FROM old
    WHERE currencies.id = old.id
        AND (
            {differences}
        )
    RETURNING currencies.*
), record AS (
    SELECT * FROM new
    UNION ALL
    SELECT * FROM old WHERE NOT EXISTS (SELECT FROM new)
)
SELECT
    id, code, symbol
FROM record"""

DELETE: Final = """
WITH old AS (
    SELECT * FROM currencies
    WHERE id = %(id)s
    FOR UPDATE
), new AS (
    DELETE FROM currencies
    USING old
    WHERE currencies.id = old.id
    RETURNING currencies.*
)
SELECT EXISTS (SELECT FROM old), EXISTS (SELECT FROM new), ARRAY[]::text[]"""

NEWEST: Final = CurrencyColumns.id.desc()


class _Currency(ActionsBase[Currency]):
    """What the two flavours share."""

    _resource = "currency"
    _model = Currency
    _constraints = CONSTRAINTS

    def validate_create(self, data: CurrencyCreate, check: Check) -> None:
        """Check a new currency; override to add rules of your own."""
        check.apply(RULES, given(data))

    def validate_update(self, data: CurrencyUpdate, check: Check) -> None:
        """Check changes to a currency; override to add rules of your own."""
        check.apply(RULES, given(data))

    def _key(self, currency_id: UUID) -> Params:
        return {"id": currency_id}

    def _create(self, data: CurrencyCreate) -> Params:
        return self._key(uuid7()) | given(self._valid(data, self.validate_create))

    def _update(self, currency_id: UUID, data: CurrencyUpdate) -> tuple[LiteralString, Params]:
        changes = given(self._valid(data, self.validate_update))
        query = partial(UPDATE, UPDATABLE, changes) if changes else GET
        return query, self._key(currency_id) | changes

    def _list(
        self,
        where: Condition[Currency] | None,
        order_by: Order[Currency],
        limit: int,
        after: str | None,
    ) -> tuple[LiteralString, list[object]]:
        conditions = (where,) if where else ()
        return list_query(SELECT, conditions, order_by, limit, after)


class CurrencyActions(_Currency, Actions[Currency]):
    """Creates, reads, lists, updates and deletes currencies."""

    @traced("currency.create")
    def create(self, data: CurrencyCreate) -> Currency:
        """Insert a currency."""
        return self._created(self._one(CREATE, self._create(data)))

    @traced("currency.get")
    def get(self, currency_id: UUID) -> Currency:
        """Return the currency of that id."""
        return self._found(self._one(GET, self._key(currency_id)))

    @traced("currency.list")
    def list(
        self,
        where: Condition[Currency] | None = None,
        *,
        order_by: Order[Currency] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Currency]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return self._page(query, order_by, limit, after)

    @traced("currency.update")
    def update(self, currency_id: UUID, data: CurrencyUpdate) -> Currency:
        """Change a currency; nothing is written where nothing is different."""
        return self._found(self._one(*self._update(currency_id, data)))

    @traced("currency.delete")
    def delete(self, currency_id: UUID) -> None:
        """Delete a currency for good."""
        self._delete(DELETE, self._key(currency_id))


class AsyncCurrencyActions(_Currency, AsyncActions[Currency]):
    """Creates, reads, lists, updates and deletes currencies."""

    @traced("currency.create")
    async def create(self, data: CurrencyCreate) -> Currency:
        """Insert a currency."""
        return self._created(await self._one(CREATE, self._create(data)))

    @traced("currency.get")
    async def get(self, currency_id: UUID) -> Currency:
        """Return the currency of that id."""
        return self._found(await self._one(GET, self._key(currency_id)))

    @traced("currency.list")
    async def list(
        self,
        where: Condition[Currency] | None = None,
        *,
        order_by: Order[Currency] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Currency]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return await self._page(query, order_by, limit, after)

    @traced("currency.update")
    async def update(self, currency_id: UUID, data: CurrencyUpdate) -> Currency:
        """Change a currency; nothing is written where nothing is different."""
        return self._found(await self._one(*self._update(currency_id, data)))

    @traced("currency.delete")
    async def delete(self, currency_id: UUID) -> None:
        """Delete a currency for good."""
        await self._delete(DELETE, self._key(currency_id))
