"""Pages of a list, and the opaque cursors that lead to the next one."""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Generic, LiteralString
from uuid import UUID

from attrs import frozen

from forgecore.runtime.columns import Condition, ModelT, Order
from forgecore.runtime.errors import FieldError, InvalidCursorError, ValidationError


@frozen
class Page(Generic[ModelT]):
    """Some records, and the cursor of the page after them; None at the end."""

    items: Sequence[ModelT]
    next: str | None

    def __iter__(self) -> Iterator[ModelT]:
        return iter(self.items)


def page_of(rows: Sequence[ModelT], order: Order[ModelT], limit: int) -> Page[ModelT]:
    """Make a page of `rows`, of which the statement fetched one more than `limit`."""
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], write_cursor(order, getattr(last, order.column), last.id))


def list_query(
    select: LiteralString,
    conditions: Sequence[Condition[ModelT]],
    order: Order[ModelT],
    limit: int,
    after: str | None,
) -> tuple[LiteralString, list[object]]:
    """Return the statement of a page, one row longer than asked, and its values.

    `select` ends with a line's end.
    """
    if limit < 1:
        fault = FieldError("limit", "too_small", "must be at least 1")
        raise ValidationError("limit must be at least 1", [fault])
    texts: list[LiteralString] = [condition.text for condition in conditions]
    values = [value for condition in conditions for value in condition.values]
    compare: LiteralString = "<" if order.descending else ">"
    direction: LiteralString = "DESC" if order.descending else "ASC"
    if order.column == "id":
        key: LiteralString = "id"
        sort: LiteralString = f"id {direction}"
    else:
        key = f'"{order.column}", id'
        sort = f'"{order.column}" {direction}, id {direction}'
    if after is not None:
        position = read_cursor(order, after)
        marks: list[LiteralString] = ["%s"] * len(position)
        texts.append(f"({key}) {compare} ({', '.join(marks)})")
        values.extend(position)
    where: LiteralString = f"WHERE {' AND '.join(texts)}\n" if texts else ""
    return f"{select}{where}ORDER BY {sort}\nLIMIT %s", [*values, limit + 1]


def write_cursor(order: Order[ModelT], value: object, record_id: UUID) -> str:
    """Return the opaque position after a record."""
    body = json.dumps([order.column, order.descending, _plain(value), str(record_id)])
    return base64.urlsafe_b64encode(body.encode()).decode()


def read_cursor(order: Order[ModelT], cursor: str) -> tuple[object, ...]:
    """Return the position that `cursor` holds: (value, id), or (id,) in the order of ids."""
    try:
        body: object = json.loads(base64.b64decode(cursor.encode("ascii"), b"-_", validate=True))
        match body:
            case [str(column), bool(descending), str() | int() | float() as value, str(record_id)]:
                position = UUID(record_id)
            case _:
                raise InvalidCursorError("this is no cursor of a list")
    except (ValueError, RecursionError, binascii.Error):
        raise InvalidCursorError("this is no cursor of a list") from None
    if (column, descending) != (order.column, order.descending):
        raise InvalidCursorError("this cursor belongs to another order")
    return (position,) if column == "id" else (value, position)


def _plain(value: object) -> object:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case _:
            return value
