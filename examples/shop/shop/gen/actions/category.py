"""Actions of the resource Category: create, get, list, update, delete, restore.

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

from shop.gen.models.category import Category, CategoryColumns, CategoryCreate, CategoryUpdate
from shop.gen.validation.category import RULES

CONSTRAINTS: Final[Constraints] = {
    "categories_name_key": ("name",),
    "categories_name_check": ("name",),
    "categories_parent_id_fkey": ("parent_id",),
}

# A foreign key accepts rows in the trash: a dead one becomes an id that no row has.
LIVE_PARENT: Final = """CASE WHEN %(parent_id)s::uuid IS NOT NULL THEN coalesce((
            SELECT id FROM categories
            WHERE id = %(parent_id)s
                AND tenant_id = %(tenant_id)s
                AND deleted_at IS NULL
            FOR SHARE
        ), '00000000-0000-0000-0000-000000000000') END"""

UPDATABLE: Final[Updatable] = {
    "name": ("name = %(name)s", "old.name IS DISTINCT FROM %(name)s"),
    "parent_id": (f"parent_id = {LIVE_PARENT}", "old.parent_id IS DISTINCT FROM %(parent_id)s"),
}

SELECT: Final = """
SELECT
    id, tenant_id, name, parent_id, deleted_at
FROM categories
"""

GET: Final = f"""{SELECT}WHERE id = %(id)s
    AND tenant_id = %(tenant_id)s
    AND deleted_at IS NULL"""

CREATE: Final = """
WITH new AS (
    INSERT INTO categories (
        id, tenant_id, name, parent_id
    )
    VALUES (
        %(id)s, %(tenant_id)s, %(name)s,
        CASE WHEN %(parent_id)s::uuid IS NOT NULL THEN coalesce((
            SELECT id FROM categories
            WHERE id = %(parent_id)s
                AND tenant_id = %(tenant_id)s
                AND deleted_at IS NULL
            FOR SHARE
        ), '00000000-0000-0000-0000-000000000000') END
    )
    RETURNING *
)
SELECT
    id, tenant_id, name, parent_id, deleted_at
FROM new"""

UPDATE: Final = """
WITH old AS (
    SELECT * FROM categories
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
        AND deleted_at IS NULL
    FOR NO KEY UPDATE
), new AS (
    UPDATE categories
    SET {assignments}
    FROM old
    WHERE categories.id = old.id
        AND (
            {differences}
        )
    RETURNING categories.*
), record AS (
    SELECT * FROM new
    UNION ALL
    SELECT * FROM old WHERE NOT EXISTS (SELECT FROM new)
)
SELECT
    id, tenant_id, name, parent_id, deleted_at
FROM record"""

DELETE: Final = """
WITH old AS (
    SELECT * FROM categories
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
        AND deleted_at IS NULL
    FOR NO KEY UPDATE
), referring AS (
    SELECT 'categories' AS name FROM old
    WHERE EXISTS (
        SELECT FROM categories
        WHERE categories.parent_id = old.id
            AND categories.id <> old.id
            AND categories.deleted_at IS NULL
    )
), new AS (
    UPDATE categories
    SET deleted_at = now()
    FROM old
    WHERE categories.id = old.id AND NOT EXISTS (SELECT FROM referring)
    RETURNING categories.*
)
SELECT
    EXISTS (SELECT FROM old),
    EXISTS (SELECT FROM new),
    ARRAY(SELECT name FROM referring)"""

RESTORE: Final = """
WITH old AS (
    SELECT * FROM categories
    WHERE id = %(id)s
        AND tenant_id = %(tenant_id)s
        AND deleted_at IS NOT NULL
    FOR NO KEY UPDATE
), new AS (
    UPDATE categories
    SET deleted_at = NULL
    FROM old
    WHERE categories.id = old.id
    RETURNING categories.*
)
SELECT
    id, tenant_id, name, parent_id, deleted_at
FROM new"""

NEWEST: Final = CategoryColumns.id.desc()


class _Category(ActionsBase[Category]):
    """What the two flavours share."""

    _resource = "category"
    _model = Category
    _constraints = CONSTRAINTS

    def validate_create(self, data: CategoryCreate, check: Check) -> None:
        """Check a new category; override to add rules of your own."""
        check.apply(RULES, given(data))

    def validate_update(self, data: CategoryUpdate, check: Check) -> None:
        """Check changes to a category; override to add rules of your own."""
        check.apply(RULES, given(data))

    def _key(self, category_id: UUID) -> Params:
        return {"id": category_id, "tenant_id": self._tenant()}

    def _create(self, data: CategoryCreate) -> Params:
        return self._key(uuid7()) | given(self._valid(data, self.validate_create))

    def _update(self, category_id: UUID, data: CategoryUpdate) -> tuple[LiteralString, Params]:
        changes = given(self._valid(data, self.validate_update))
        query = partial(UPDATE, UPDATABLE, changes) if changes else GET
        return query, self._key(category_id) | changes

    def _list(
        self,
        where: Condition[Category] | None,
        order_by: Order[Category],
        limit: int,
        after: str | None,
    ) -> tuple[LiteralString, list[object]]:
        scope = Condition[Category]("tenant_id = %s AND deleted_at IS NULL", (self._tenant(),))
        conditions = (scope, where) if where else (scope,)
        return list_query(SELECT, conditions, order_by, limit, after)


class CategoryActions(_Category, Actions[Category]):
    """Creates, reads, lists, updates and deletes categories of the current tenant."""

    @traced("category.create")
    def create(self, data: CategoryCreate) -> Category:
        """Insert a category."""
        return self._created(self._one(CREATE, self._create(data)))

    @traced("category.get")
    def get(self, category_id: UUID) -> Category:
        """Return the category of that id."""
        return self._found(self._one(GET, self._key(category_id)))

    @traced("category.list")
    def list(
        self,
        where: Condition[Category] | None = None,
        *,
        order_by: Order[Category] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Category]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return self._page(query, order_by, limit, after)

    @traced("category.update")
    def update(self, category_id: UUID, data: CategoryUpdate) -> Category:
        """Change a category; nothing is written where nothing is different."""
        return self._found(self._one(*self._update(category_id, data)))

    @traced("category.delete")
    def delete(self, category_id: UUID) -> None:
        """Put a category into the trash."""
        self._delete(DELETE, self._key(category_id))

    @traced("category.restore")
    def restore(self, category_id: UUID) -> Category:
        """Take a category out of the trash."""
        return self._found(self._one(RESTORE, self._key(category_id)))


class AsyncCategoryActions(_Category, AsyncActions[Category]):
    """Creates, reads, lists, updates and deletes categories of the current tenant."""

    @traced("category.create")
    async def create(self, data: CategoryCreate) -> Category:
        """Insert a category."""
        return self._created(await self._one(CREATE, self._create(data)))

    @traced("category.get")
    async def get(self, category_id: UUID) -> Category:
        """Return the category of that id."""
        return self._found(await self._one(GET, self._key(category_id)))

    @traced("category.list")
    async def list(
        self,
        where: Condition[Category] | None = None,
        *,
        order_by: Order[Category] = NEWEST,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Category]:
        """Return a page, newest first, from the cursor `after` on."""
        query = self._list(where, order_by, limit, after)
        return await self._page(query, order_by, limit, after)

    @traced("category.update")
    async def update(self, category_id: UUID, data: CategoryUpdate) -> Category:
        """Change a category; nothing is written where nothing is different."""
        return self._found(await self._one(*self._update(category_id, data)))

    @traced("category.delete")
    async def delete(self, category_id: UUID) -> None:
        """Put a category into the trash."""
        await self._delete(DELETE, self._key(category_id))

    @traced("category.restore")
    async def restore(self, category_id: UUID) -> Category:
        """Take a category out of the trash."""
        return self._found(await self._one(RESTORE, self._key(category_id)))
