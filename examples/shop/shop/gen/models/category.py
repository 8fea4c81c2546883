"""The resource Category: its records, its inputs and its columns."""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen
from forgecore.runtime import UNSET, Column, SortColumn, SortedColumn, Unset


@frozen
class Category:
    """A category of one tenant."""

    id: UUID
    tenant_id: UUID
    name: str
    parent_id: UUID | None
    deleted_at: datetime | None


@frozen(kw_only=True)
class CategoryCreate:
    """What a new category is made of."""

    name: str
    parent_id: UUID | None = None


@frozen(kw_only=True)
class CategoryUpdate:
    """What to change of a category; a field left out stays as it is."""

    name: str | Unset = UNSET
    parent_id: UUID | Unset | None = UNSET


class CategoryColumns:
    """Columns to filter and to sort by."""

    id: Final = SortedColumn[Category, UUID]("id")
    name: Final = SortColumn[Category]("name")
    parent_id: Final = Column[Category, UUID]("parent_id")
