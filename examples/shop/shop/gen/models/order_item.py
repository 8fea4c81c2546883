"""The resource OrderItem: its records, its inputs and its columns."""

from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from attrs import frozen
from forgecore.runtime import UNSET, Column, SortedColumn, SortedRangeColumn, Unset


@frozen
class OrderItem:
    """An order item of one tenant."""

    id: UUID
    tenant_id: UUID
    quantity: int
    unit_price: Decimal
    product_id: UUID
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class OrderItemCreate:
    """What a new order item is made of."""

    quantity: int
    unit_price: Decimal
    product_id: UUID


@frozen(kw_only=True)
class OrderItemUpdate:
    """What to change of an order item; a field left out stays as it is."""

    quantity: int | Unset = UNSET
    unit_price: Decimal | Unset = UNSET
    product_id: UUID | Unset = UNSET


class OrderItemColumns:
    """Columns to filter and to sort by."""

    id: Final = SortedColumn[OrderItem, UUID]("id")
    product_id: Final = Column[OrderItem, UUID]("product_id")
    created_at: Final = SortedRangeColumn[OrderItem, datetime]("created_at")
    updated_at: Final = SortedRangeColumn[OrderItem, datetime]("updated_at")
