"""Values as the text of a literal, in Python and in SQL."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import cast
from uuid import UUID

from forgecore.names import string_literal
from forgecore.plugin import Code, Import


def python_literal(value: object) -> Code:
    """Return the text of `value` in Python, and what it imports."""
    match value:
        case Decimal():
            return Code(f'Decimal("{value}")', (Import("decimal", "Decimal"),))
        case UUID():
            return Code(f'UUID("{value}")', (Import("uuid", "UUID"),))
        case datetime():
            utc = value.astimezone(UTC)
            parts = _numbers(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)
            micro = f", {utc.microsecond}" if utc.microsecond else ""
            both = (Import("datetime", "UTC"), Import("datetime", "datetime"))
            return Code(f"datetime({parts}{micro}, tzinfo=UTC)", both)
        case date():
            parts = _numbers(value.year, value.month, value.day)
            return Code(f"date({parts})", (Import("datetime", "date"),))
        case time():
            micro = f", {value.microsecond}" if value.microsecond else ""
            parts = _numbers(value.hour, value.minute, value.second)
            return Code(f"time({parts}{micro})", (Import("datetime", "time"),))
        case list():
            inner = [python_literal(item) for item in cast("list[object]", value)]
            imports = tuple(one for code in inner for one in code.imports)
            return Code("[" + ", ".join(code.text for code in inner) + "]", imports)
        case _:
            return Code(string_literal(value) if isinstance(value, str) else repr(value))


def sql_literal(value: object) -> str:
    """Return the text of `value` in SQL; the column's type gives it its own."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return str(value)
        case list():
            items = cast("list[object]", value)
            return "'{" + ",".join(_element(item) for item in items).replace("'", "''") + "}'"
        case datetime() | date() | time():
            return f"'{value.isoformat()}'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def plain_json(value: object) -> object:
    """Return a TOML value as JSON has it: its decimals are doubles."""
    match value:
        case Decimal():
            return float(value)
        case Mapping():
            members = cast("Mapping[str, object]", value)
            return {key: plain_json(item) for key, item in members.items()}
        case list():
            return [plain_json(item) for item in cast("list[object]", value)]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise ValueError("must be made of JSON's types")


def _numbers(*numbers: int) -> str:
    return ", ".join(str(number) for number in numbers)


def _element(value: object) -> str:
    if isinstance(value, bool | int | float | Decimal):
        return str(value).lower()
    text = value.isoformat() if isinstance(value, datetime | date | time) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
