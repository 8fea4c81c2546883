"""The resource Currency: its records, its inputs and its columns."""

from typing import Final
from uuid import UUID

from attrs import frozen
from forgecore.runtime import UNSET, SortedColumn, Unset


@frozen
class Currency:
    """A currency."""

    id: UUID
    code: str
    symbol: str | None


@frozen(kw_only=True)
class CurrencyCreate:
    """What a new currency is made of."""

    code: str
    symbol: str | None = None


@frozen(kw_only=True)
class CurrencyUpdate:
    """What to change of a currency; a field left out stays as it is."""

    code: str | Unset = UNSET
    symbol: str | Unset | None = UNSET


class CurrencyColumns:
    """Columns to filter and to sort by."""

    id: Final = SortedColumn[Currency, UUID]("id")
