"""Typed conditions and orders for `list()`: only what the schema marks is a column here."""

from collections.abc import Collection
from typing import Generic, LiteralString, Protocol, TypeVar
from uuid import UUID

from attrs import frozen


class Record(Protocol):
    """What every resource's records have."""

    @property
    def id(self) -> UUID:
        """The primary key."""
        ...


ModelT = TypeVar("ModelT", bound=Record)
T = TypeVar("T")


@frozen
class Condition(Generic[ModelT]):
    """A condition on rows of one resource. `%s` in the text stands for one value."""

    text: LiteralString
    values: tuple[object, ...]

    def __and__(self, other: "Condition[ModelT]") -> "Condition[ModelT]":
        return Condition(f"({self.text} AND {other.text})", self.values + other.values)

    def __or__(self, other: "Condition[ModelT]") -> "Condition[ModelT]":
        return Condition(f"({self.text} OR {other.text})", self.values + other.values)

    def __invert__(self) -> "Condition[ModelT]":
        # A null makes a comparison null, and `NOT null` would find no row either.
        return Condition(f"(({self.text}) IS NOT TRUE)", self.values)


@frozen
class Order(Generic[ModelT]):
    """An order of rows of one resource; equal values stand in the order of their ids."""

    column: LiteralString
    descending: bool


@frozen
class Column(Generic[ModelT, T]):
    """A column to filter by."""

    name: LiteralString

    def eq(self, value: T) -> Condition[ModelT]:
        """Equal to `value`."""
        return Condition(f'"{self.name}" = %s', (value,))

    def ne(self, value: T) -> Condition[ModelT]:
        """Not equal to `value`; null counts as different."""
        return Condition(f'"{self.name}" IS DISTINCT FROM %s', (value,))

    def is_in(self, values: Collection[T]) -> Condition[ModelT]:
        """Equal to one of `values`."""
        return Condition(f'"{self.name}" = ANY(%s)', (list(values),))

    def is_null(self) -> Condition[ModelT]:
        """Has no value."""
        return Condition(f'"{self.name}" IS NULL', ())


@frozen
class RangeColumn(Column[ModelT, T]):
    """A column whose values have an order, to filter by a range."""

    def lt(self, value: T) -> Condition[ModelT]:
        """Below `value`."""
        return Condition(f'"{self.name}" < %s', (value,))

    def lte(self, value: T) -> Condition[ModelT]:
        """At most `value`."""
        return Condition(f'"{self.name}" <= %s', (value,))

    def gt(self, value: T) -> Condition[ModelT]:
        """Above `value`."""
        return Condition(f'"{self.name}" > %s', (value,))

    def gte(self, value: T) -> Condition[ModelT]:
        """At least `value`."""
        return Condition(f'"{self.name}" >= %s', (value,))


@frozen
class TextColumn(RangeColumn[ModelT, str]):
    """A text column, to filter by its parts as well."""

    def contains(self, part: str) -> Condition[ModelT]:
        """Has `part` in it, whatever the case."""
        return Condition(f'"{self.name}" ILIKE %s', (f"%{_escaped(part)}%",))

    def starts_with(self, part: str) -> Condition[ModelT]:
        """Begins with `part`."""
        return Condition(f'"{self.name}" LIKE %s', (f"{_escaped(part)}%",))


class _Sortable(Generic[ModelT]):
    __slots__ = ()
    name: LiteralString

    def asc(self) -> Order[ModelT]:
        """Smallest first."""
        return Order(self.name, descending=False)

    def desc(self) -> Order[ModelT]:
        """Largest first."""
        return Order(self.name, descending=True)


@frozen
class SortColumn(_Sortable[ModelT]):
    """A column to sort by: it is never null."""

    name: LiteralString


@frozen
class SortedColumn(_Sortable[ModelT], Column[ModelT, T]):
    """A column to sort by and to filter by."""


@frozen
class SortedRangeColumn(_Sortable[ModelT], RangeColumn[ModelT, T]):
    """A column to sort by and to filter by a range."""


@frozen
class SortedTextColumn(_Sortable[ModelT], TextColumn[ModelT]):
    """A text column to sort by and to filter by."""


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
