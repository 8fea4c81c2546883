"""Actions of the resource OrderItem: create, get, list, update, delete.

A record and what plugins write beside it are one statement, in whatever transaction
the connection is in.
"""

from typing import ClassVar, Final, LiteralString
from uuid import UUID

from attrs import frozen
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
from forgecore_jobs import enqueues
from forgecore_otel import traced
from psycopg.types.json import Jsonb

from shop.gen.jobs.wiring import metadata
from shop.gen.models.order_item import OrderItem, OrderItemColumns, OrderItemCreate, OrderItemUpdate
from shop.gen.validation.order_item import RULES


@frozen
class ReserveStockArgs:
    """Arguments of the job `reserve_stock`."""

    kind: ClassVar[str] = "reserve_stock"
    resource_id: UUID
    tenant_id: UUID


CONSTRAINTS: Final[Constraints] = {
    "order_items_quantity_check": ("quantity",),
    "order_items_product_id_fkey": ("product_id",),
}

# A foreign key accepts rows in the trash: a dead one becomes an id that no row has.
LIVE_PRODUCT: Final = """coalesce((
            SELECT id FROM products
            WHERE id = %(product_id)s
                AND tenant_id = %(tenant_id)s
                AND deleted_at IS NULL
            FOR SHARE
        ), '00000000-0000-0000-0000-000000000000')"""

UPDATABLE: Final[Updatable] = {
    "quantity": ("quantity = %(quantity)s", "old.quantity IS DISTINCT FROM %(quantity)s"),
    "unit_price": ("unit_price = %(unit_price)s", "old.unit_price IS DISTINCT FROM %(unit_price)s"),
    "product_id": (
        f"product_id = {LIVE_PRODUCT}",
        "old.product_id IS DISTINCT FROM %(product_id)s",
    ),
}

SELECT: Final = """
SELECT
    id, tenant_id, quantity, unit_price, product_id, created_at, updated_at
FROM order_items
"""

GET: Final = f"""{SELECT}WHERE id = %(id)s
    AND tenant_id = %(tenant_id)s"""

CREATE: Final = """
WITH new AS (
    INSERT INTO order_items (
        id, tenant_id, quantity, unit_price, product_id
    )
    VALUES (
        %(id)s, %(tenant_id)s, %(quantity)s, %(unit_price)s,
        coalesce((
            SELECT id FROM products
            WHERE id = %(product_id)s
                AND tenant_id = %(tenant_id)s
                AND deleted_at IS NULL
            FOR SHARE
        ), '00000000-0000-0000-0000-000000000000')
    )
    RETURNING *
), jobs AS (
    INSERT INTO forge.jobs (
        kind, queue, args, tenant_id, metadata
    )
    SELECT
        hook.kind,
        hook.queue,
        jsonb_build_object('resource_id', new.id, 'tenant_id', new.tenant_id),
        new.tenant_id,
        %(jobs__metadata)s
    FROM new, (
        VALUES
            ('reserve_stock', 'default')
    ) AS hook (kind, queue)
)
SELECT
    id, tenant_id, quantity, unit_price, product_id, created_at, updated_at
FROM new"""

UPDATE: Final = """
WITH old AS (
    SELECT * FROM order_items
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
    FOR NO KEY UPDATE
), new AS (
    UPDATE order_items
    SET {assignments},
        updated_at = now()
    FROM old
    WHERE order_items.id = old.id
        AND (
            {differences}
        )
    RETURNING order_items.*
), record AS (
    SELECT * FROM new
    UNION ALL
    SELECT * FROM old WHERE NOT EXISTS (SELECT FROM new)
)
SELECT
    id, tenant_id, quantity, unit_price, product_id, created_at, updated_at
FROM record"""

DELETE: Final = """
WITH old AS (
    SELECT * FROM order_items
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
    FOR UPDATE
), new AS (
    DELETE FROM order_items
    USING old
    WHERE order_items.id = old.id
    RETURNING order_items.*
)
SELECT EXISTS (SELECT FROM old), EXISTS (SELECT FROM new), ARRAY[]::text[]"""

NEWEST: Final = OrderItemColumns.id.desc()


class _OrderItem(ActionsBase[OrderItem]):
    """What the two flavours share."""

    _resource = "order item"
    _model = OrderItem
    _constraints = CONSTRAINTS

    def validate_create(self, data: OrderItemCreate, check: Check) -> None:
        """Check a new order item; override to add rules of your own."""
        check.apply(RULES, given(data))

    def validate_update(self, data: OrderItemUpdate, check: Check) -> None:
        """Check changes to an order item; override to add rules of your own."""
        check.apply(RULES, given(data))

    def _key(self, order_item_id: UUID) -> Params:
        return {"id": order_item_id, "tenant_id": self._tenant()}

    def _create(self, data: OrderItemCreate) -> Params:
        return (
            self._key(uuid7())
            | given(self._valid(data, self.validate_create))
            | {"jobs__metadata": Jsonb(metadata())}
        )

    def _update(self, order_item_id: UUID, data: OrderItemUpdate) -> tuple[LiteralString, Params]:
        changes = given(self._valid(data, self.validate_update))
        query = partial(UPDATE, UPDATABLE, changes) if changes else GET
        return query, self._key(order_item_id) | changes

    def _list(
        self,
        where: Condition[OrderItem] | None,
        order_by: Order[OrderItem],
        limit: int,
        after: str | None,
    ) -> tuple[LiteralString, list[object]]:
        scope = Condition[OrderItem]("tenant_id = %s", (self._tenant(),))
        conditions = (scope, where) if where else (scope,)
        return list_query(SELECT, conditions, order_by, limit, after)


class OrderItemActions(_OrderItem, Actions[OrderItem]):
    """Creates, reads, lists, updates and deletes order items of the current tenant."""

    @traced("order_item.create")
    @enqueues("reserve_stock")
    def create(self, data: OrderItemCreate) -> OrderItem:
        """Insert an order item."""
        return self._created(self._one(CREATE, self._create(data)))

    @traced("order_item.get")
    def get(self, order_item_id: UUID) -> OrderItem:
        """Return the order item of that id."""
        return self._found(self._one(GET, self._key(order_item_id)))

    @traced("order_item.list")
    def list(
        self,
        where: Condition[OrderItem] | None = None,
        *,
        order_by: Order[OrderItem] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[OrderItem]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return self._page(query, order_by, limit, after)

    @traced("order_item.update")
    def update(self, order_item_id: UUID, data: OrderItemUpdate) -> OrderItem:
        """Change an order item; nothing is written where nothing is different."""
        return self._found(self._one(*self._update(order_item_id, data)))

    @traced("order_item.delete")
    def delete(self, order_item_id: UUID) -> None:
        """Delete an order item for good."""
        self._delete(DELETE, self._key(order_item_id))


class AsyncOrderItemActions(_OrderItem, AsyncActions[OrderItem]):
    """Creates, reads, lists, updates and deletes order items of the current tenant."""

    @traced("order_item.create")
    @enqueues("reserve_stock")
    async def create(self, data: OrderItemCreate) -> OrderItem:
        """Insert an order item."""
        return self._created(await self._one(CREATE, self._create(data)))

    @traced("order_item.get")
    async def get(self, order_item_id: UUID) -> OrderItem:
        """Return the order item of that id."""
        return self._found(await self._one(GET, self._key(order_item_id)))

    @traced("order_item.list")
    async def list(
        self,
        where: Condition[OrderItem] | None = None,
        *,
        order_by: Order[OrderItem] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[OrderItem]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return await self._page(query, order_by, limit, after)

    @traced("order_item.update")
    async def update(self, order_item_id: UUID, data: OrderItemUpdate) -> OrderItem:
        """Change an order item; nothing is written where nothing is different."""
        return self._found(await self._one(*self._update(order_item_id, data)))

    @traced("order_item.delete")
    async def delete(self, order_item_id: UUID) -> None:
        """Delete an order item for good."""
        await self._delete(DELETE, self._key(order_item_id))
