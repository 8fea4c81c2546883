"""The resource Product: its records, its inputs and its columns."""

from datetime import datetime
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

from attrs import frozen
from forgecore.runtime import (
    UNSET,
    Column,
    SortColumn,
    SortedColumn,
    SortedRangeColumn,
    SortedTextColumn,
    Unset,
)

ProductStatus = Literal["draft", "active", "archived"]


@frozen
class Product:
    """A product of one tenant."""

    id: UUID
    tenant_id: UUID
    title: str
    price: Decimal
    status: ProductStatus
    sku: str
    category_id: UUID | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@frozen(kw_only=True)
class ProductCreate:
    """What a new product is made of."""

    title: str
    price: Decimal
    status: ProductStatus = "draft"
    sku: str
    category_id: UUID | None = None


@frozen(kw_only=True)
class ProductUpdate:
    """What to change of a product; a field left out stays as it is."""

    title: str | Unset = UNSET
    price: Decimal | Unset = UNSET
    status: ProductStatus | Unset = UNSET
    category_id: UUID | Unset | None = UNSET


class ProductColumns:
    """Columns to filter and to sort by."""

    id: Final = SortedColumn[Product, UUID]("id")
    title: Final = SortedTextColumn[Product]("title")
    price: Final = SortColumn[Product]("price")
    status: Final = Column[Product, ProductStatus]("status")
    category_id: Final = Column[Product, UUID]("category_id")
    created_at: Final = SortedRangeColumn[Product, datetime]("created_at")
    updated_at: Final = SortedRangeColumn[Product, datetime]("updated_at")
