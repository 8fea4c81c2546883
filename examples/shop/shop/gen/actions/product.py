"""Actions of the resource Product: create, get, list, update, delete, restore.

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
from shop.gen.models.product import Product, ProductColumns, ProductCreate, ProductUpdate
from shop.gen.validation.product import RULES


@frozen
class NotifyNewProductArgs:
    """Arguments of the job `notify_new_product`."""

    kind: ClassVar[str] = "notify_new_product"
    resource_id: UUID
    tenant_id: UUID


@frozen
class IndexProductArgs:
    """Arguments of the job `index_product`."""

    kind: ClassVar[str] = "index_product"
    resource_id: UUID
    tenant_id: UUID


CONSTRAINTS: Final[Constraints] = {
    "products_title_check": ("title",),
    "products_price_check": ("price",),
    "products_status_check": ("status",),
    "products_sku_key": ("sku",),
    "products_category_id_fkey": ("category_id",),
}

# A foreign key accepts rows in the trash: a dead one becomes an id that no row has.
LIVE_CATEGORY: Final = """CASE WHEN %(category_id)s::uuid IS NOT NULL THEN coalesce((
            SELECT id FROM categories
            WHERE id = %(category_id)s
                AND tenant_id = %(tenant_id)s
                AND deleted_at IS NULL
            FOR SHARE
        ), '00000000-0000-0000-0000-000000000000') END"""

UPDATABLE: Final[Updatable] = {
    "title": ("title = %(title)s", "old.title IS DISTINCT FROM %(title)s"),
    "price": ("price = %(price)s", "old.price IS DISTINCT FROM %(price)s"),
    "status": ("status = %(status)s", "old.status IS DISTINCT FROM %(status)s"),
    "category_id": (
        f"category_id = {LIVE_CATEGORY}",
        "old.category_id IS DISTINCT FROM %(category_id)s",
    ),
}

SELECT: Final = """
SELECT
    id, tenant_id, title, price, status, sku, category_id, created_at, updated_at,
    deleted_at
FROM products
"""

GET: Final = f"""{SELECT}WHERE id = %(id)s
    AND tenant_id = %(tenant_id)s
    AND deleted_at IS NULL"""

CREATE: Final = """
WITH new AS (
    INSERT INTO products (
        id, tenant_id, title, price, status, sku, category_id
    )
    VALUES (
        %(id)s, %(tenant_id)s, %(title)s, %(price)s, %(status)s, %(sku)s,
        CASE WHEN %(category_id)s::uuid IS NOT NULL THEN coalesce((
            SELECT id FROM categories
            WHERE id = %(category_id)s
                AND tenant_id = %(tenant_id)s
                AND deleted_at IS NULL
            FOR SHARE
        ), '00000000-0000-0000-0000-000000000000') END
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
            ('notify_new_product', 'notifications'),
            ('index_product', 'search')
    ) AS hook (kind, queue)
)
SELECT
    id, tenant_id, title, price, status, sku, category_id, created_at, updated_at,
    deleted_at
FROM new"""

UPDATE: Final = """
WITH old AS (
    SELECT * FROM products
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
        AND deleted_at IS NULL
    FOR NO KEY UPDATE
), new AS (
    UPDATE products
    SET {assignments},
        updated_at = now()
    FROM old
    WHERE products.id = old.id
        AND (
            {differences}
        )
    RETURNING products.*
), jobs AS (
    INSERT INTO forge.jobs (
        kind, queue, args, tenant_id, metadata, max_attempts
    )
    SELECT
        hook.kind,
        hook.queue,
        jsonb_build_object('resource_id', new.id, 'tenant_id', new.tenant_id),
        new.tenant_id,
        %(jobs__metadata)s,
        hook.max_attempts
    FROM new, (
        VALUES
            ('index_product', 'search', 5)
    ) AS hook (kind, queue, max_attempts)
), record AS (
    SELECT * FROM new
    UNION ALL
    SELECT * FROM old WHERE NOT EXISTS (SELECT FROM new)
)
SELECT
    id, tenant_id, title, price, status, sku, category_id, created_at, updated_at,
    deleted_at
FROM record"""

DELETE: Final = """
WITH old AS (
    SELECT * FROM products
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
        AND deleted_at IS NULL
    FOR NO KEY UPDATE
), referring AS (
    SELECT 'order_items' AS name FROM old
    WHERE EXISTS (
        SELECT FROM order_items
        WHERE order_items.product_id = old.id
    )
), new AS (
    UPDATE products
    SET deleted_at = now()
    FROM old
    WHERE products.id = old.id AND NOT EXISTS (SELECT FROM referring)
    RETURNING products.*
)
SELECT
    EXISTS (SELECT FROM old),
    EXISTS (SELECT FROM new),
    ARRAY(SELECT name FROM referring)"""

RESTORE: Final = """
WITH old AS (
    SELECT * FROM products
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
        AND deleted_at IS NOT NULL
    FOR NO KEY UPDATE
), new AS (
    UPDATE products
    SET deleted_at = NULL,
        updated_at = now()
    FROM old
    WHERE products.id = old.id
    RETURNING products.*
), jobs AS (
    INSERT INTO forge.jobs (
        kind, queue, args, tenant_id, metadata, max_attempts
    )
    SELECT
        hook.kind,
        hook.queue,
        jsonb_build_object('resource_id', new.id, 'tenant_id', new.tenant_id),
        new.tenant_id,
        %(jobs__metadata)s,
        hook.max_attempts
    FROM new, (
        VALUES
            ('index_product', 'search', 5)
    ) AS hook (kind, queue, max_attempts)
)
SELECT
    id, tenant_id, title, price, status, sku, category_id, created_at, updated_at,
    deleted_at
FROM new"""

NEWEST: Final = ProductColumns.id.desc()


class _Product(ActionsBase[Product]):
    """What the two flavours share."""

    _resource = "product"
    _model = Product
    _constraints = CONSTRAINTS

    def validate_create(self, data: ProductCreate, check: Check) -> None:
        """Check a new product; override to add rules of your own."""
        check.apply(RULES, given(data))

    def validate_update(self, data: ProductUpdate, check: Check) -> None:
        """Check changes to a product; override to add rules of your own."""
        check.apply(RULES, given(data))

    def _key(self, product_id: UUID) -> Params:
        return {"id": product_id, "tenant_id": self._tenant()}

    def _create(self, data: ProductCreate) -> Params:
        return (
            self._key(uuid7())
            | given(self._valid(data, self.validate_create))
            | {"jobs__metadata": Jsonb(metadata())}
        )

    def _update(self, product_id: UUID, data: ProductUpdate) -> tuple[LiteralString, Params]:
        changes = given(self._valid(data, self.validate_update))
        query = partial(UPDATE, UPDATABLE, changes) if changes else GET
        return query, self._key(product_id) | changes | {"jobs__metadata": Jsonb(metadata())}

    def _list(
        self,
        where: Condition[Product] | None,
        order_by: Order[Product],
        limit: int,
        after: str | None,
    ) -> tuple[LiteralString, list[object]]:
        scope = Condition[Product]("tenant_id = %s AND deleted_at IS NULL", (self._tenant(),))
        conditions = (scope, where) if where else (scope,)
        return list_query(SELECT, conditions, order_by, limit, after)


class ProductActions(_Product, Actions[Product]):
    """Creates, reads, lists, updates and deletes products of the current tenant."""

    @traced("product.create")
    @enqueues("notify_new_product", "index_product")
    def create(self, data: ProductCreate) -> Product:
        """Insert a product."""
        return self._created(self._one(CREATE, self._create(data)))

    @traced("product.get")
    def get(self, product_id: UUID) -> Product:
        """Return the product of that id."""
        return self._found(self._one(GET, self._key(product_id)))

    @traced("product.list")
    def list(
        self,
        where: Condition[Product] | None = None,
        *,
        order_by: Order[Product] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Product]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return self._page(query, order_by, limit, after)

    @traced("product.update")
    @enqueues("index_product")
    def update(self, product_id: UUID, data: ProductUpdate) -> Product:
        """Change a product; nothing is written where nothing is different."""
        return self._found(self._one(*self._update(product_id, data)))

    @traced("product.delete")
    def delete(self, product_id: UUID) -> None:
        """Put a product into the trash."""
        self._delete(DELETE, self._key(product_id))

    @traced("product.restore")
    @enqueues("index_product")
    def restore(self, product_id: UUID) -> Product:
        """Take a product out of the trash."""
        return self._found(
            self._one(RESTORE, self._key(product_id) | {"jobs__metadata": Jsonb(metadata())})
        )


class AsyncProductActions(_Product, AsyncActions[Product]):
    """Creates, reads, lists, updates and deletes products of the current tenant."""

    @traced("product.create")
    @enqueues("notify_new_product", "index_product")
    async def create(self, data: ProductCreate) -> Product:
        """Insert a product."""
        return self._created(await self._one(CREATE, self._create(data)))

    @traced("product.get")
    async def get(self, product_id: UUID) -> Product:
        """Return the product of that id."""
        return self._found(await self._one(GET, self._key(product_id)))

    @traced("product.list")
    async def list(
        self,
        where: Condition[Product] | None = None,
        *,
        order_by: Order[Product] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Product]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return await self._page(query, order_by, limit, after)

    @traced("product.update")
    @enqueues("index_product")
    async def update(self, product_id: UUID, data: ProductUpdate) -> Product:
        """Change a product; nothing is written where nothing is different."""
        return self._found(await self._one(*self._update(product_id, data)))

    @traced("product.delete")
    async def delete(self, product_id: UUID) -> None:
        """Put a product into the trash."""
        await self._delete(DELETE, self._key(product_id))

    @traced("product.restore")
    @enqueues("index_product")
    async def restore(self, product_id: UUID) -> Product:
        """Take a product out of the trash."""
        return self._found(
            await self._one(RESTORE, self._key(product_id) | {"jobs__metadata": Jsonb(metadata())})
        )
