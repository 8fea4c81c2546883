"""The core's field types: Python type, SQL type, validation rule, and what a limit means."""

import math
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Final, Literal
from uuid import UUID

from forgecore.data.literals import plain_json, python_literal, sql_literal
from forgecore.names import string_literal
from forgecore.plugin import Code, Field, FieldType, Import

_RULES: Final = (Import("forgecore.runtime", "rules"),)
_RANGE: Final = frozenset({"min", "max"})
_LENGTHS: Final = frozenset({"min_length", "max_length", "pattern"})


def field_types() -> Iterator[FieldType]:
    """Give every field type that needs no plugin."""
    for name, rule in (
        ("string", "text"),
        ("text", "text"),
        ("slug", "slug"),
        ("email", "email"),
        ("url", "url"),
    ):
        yield FieldType(
            name=name,
            python=_fixed("str"),
            sql=lambda _field: "text",
            rule=_text_rule(rule),
            keys=_LENGTHS,
            column="text",
            value=_string,
            check=_length_check,
        )
    yield _number("int", "int", "integer", "integer(32", _integer)
    yield _number("bigint", "int", "bigint", "integer(64", _integer)
    yield _number("float", "float", "double precision", "floating(", _float)
    yield FieldType(
        name="decimal",
        python=_fixed("Decimal", Import("decimal", "Decimal")),
        sql=lambda field: f"numeric({field.precision}, {field.scale})",
        rule=_decimal_rule,
        keys=_RANGE | {"precision", "scale"},
        column="range",
        value=_decimal,
        check=_range_check,
    )
    yield _plain(
        "bool", _fixed("bool"), "boolean", "rules.boolean", _instance(bool, "true or false")
    )
    yield _plain("uuid", _fixed("UUID", Import("uuid", "UUID")), "uuid", "rules.uuid", _uuid)
    yield _plain(
        "bytes", _fixed("bytes"), "bytea", "rules.binary", _no_value, column="none", element=False
    )
    for name, sql, rule, value in (
        ("datetime", "timestamptz", "aware_datetime(", _datetime),
        ("date", "date", "naive_date(", _date),
        ("time", "time", "naive_time(", _time),
    ):
        yield FieldType(
            name=name,
            python=_fixed(name, Import("datetime", name)),
            sql=_sql(sql),
            rule=_range_rule(rule),
            keys=_RANGE,
            column="range",
            value=value,
            check=_range_check,
        )
    yield FieldType(
        name="enum",
        python=_enum_type,
        sql=lambda _field: "text",
        rule=_enum_rule,
        keys=frozenset({"values"}),
        value=_string,
        check=_enum_check,
        alias=True,
        element=False,
    )
    yield FieldType(
        name="json",
        python=_fixed("Json", Import("forgecore.runtime", "Json")),
        sql=lambda _field: "jsonb",
        rule=lambda _field: Code("rules.json", _RULES),
        column="none",
        value=lambda _field, value: plain_json(value),
        element=False,
    )
    yield FieldType(
        name="array",
        python=_array_type,
        sql=lambda field: f"{_items(field).sql(field)}[]",
        rule=_array_rule,
        keys=frozenset({"items"}),
        column="none",
        value=_array,
        element=False,
    )


def bounds(field: Field) -> tuple[object, object]:
    """Return min and max as Python values; ValueError says what they must be."""
    kind = field.items_kind or field.kind
    low = None if field.min is None else kind.value(field, field.min)
    high = None if field.max is None else kind.value(field, field.max)
    return low, high


def _number(
    name: str, python: str, sql: str, rule: str, value: Callable[[Field, object], object]
) -> FieldType:
    return FieldType(
        name=name,
        python=_fixed(python),
        sql=_sql(sql),
        rule=_range_rule(rule),
        keys=_RANGE,
        column="range",
        value=value,
        check=_range_check,
    )


def _plain(
    name: str,
    python: Callable[[Field], Code],
    sql: str,
    rule: str,
    value: Callable[[Field, object], object],
    *,
    column: Literal["none", "equal"] = "equal",
    element: bool = True,
) -> FieldType:
    return FieldType(
        name=name,
        python=python,
        sql=_sql(sql),
        rule=lambda _field: Code(rule, _RULES),
        column=column,
        value=value,
        element=element,
    )


def _fixed(text: str, *imports: Import) -> Callable[[Field], Code]:
    return lambda _field: Code(text, imports)


def _sql(text: str) -> Callable[[Field], str]:
    return lambda _field: text


def _call(start: str, arguments: dict[str, Code | None]) -> Code:
    given = {name: code for name, code in arguments.items() if code is not None}
    parts = [f"{name}={code.text}" for name, code in given.items()]
    imports = tuple(one for code in given.values() for one in code.imports)
    first = [] if start.endswith("(") else [""]
    return Code(f"rules.{start}{', '.join([*first, *parts])})", (*_RULES, *imports))


def _literal(value: object) -> Code | None:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    return None if value is None else python_literal(value)


def _text_rule(rule: str) -> Callable[[Field], Code]:
    return lambda field: _call(
        f"{rule}(",
        {
            "min_length": _literal(field.min_length),
            "max_length": _literal(field.max_length),
            "pattern": Code(_raw(field.pattern)) if field.pattern is not None else None,
        },
    )


def _raw(pattern: str) -> str:
    if (
        "\\" in pattern
        and '"' not in pattern
        and "\n" not in pattern
        and not pattern.endswith("\\")
    ):
        return f'r"{pattern}"'
    return string_literal(pattern)


def _range_rule(rule: str) -> Callable[[Field], Code]:
    def code(field: Field) -> Code:
        low, high = bounds(field)
        return _call(rule, {"minimum": _literal(low), "maximum": _literal(high)})

    return code


def _decimal_rule(field: Field) -> Code:
    low, high = bounds(field)
    start = f"decimal({field.precision}, {field.scale}"
    return _call(start, {"minimum": _literal(low), "maximum": _literal(high)})


def _enum_type(field: Field) -> Code:
    members = ", ".join(string_literal(value) for value in field.values)
    return Code(f"Literal[{members}]", (Import("typing", "Literal"),))


def _enum_rule(field: Field) -> Code:
    return Code(f"rules.one_of({python_literal(list(field.values)).text})", _RULES)


def _enum_check(field: Field, column: str) -> str:
    return f"{column} IN ({', '.join(sql_literal(value) for value in field.values)})"


def _items(field: Field) -> FieldType:
    if field.items_kind is None:
        raise ValueError("an array needs `items`")
    return field.items_kind


def _array_type(field: Field) -> Code:
    inner = _items(field).python(field)
    return Code(f"list[{inner.text}]", inner.imports)


def _array_rule(field: Field) -> Code:
    inner = _items(field).rule(field)
    return Code(f"rules.array({inner.text})", inner.imports)


def _array(field: Field, value: object) -> object:
    if not isinstance(value, list):
        raise ValueError("must be a list")
    return [_items(field).value(field, item) for item in value]


def _length_check(field: Field, column: str) -> str | None:
    length = f"char_length({column})"
    parts = [
        *([f"{length} >= {field.min_length}"] if field.min_length is not None else []),
        *([f"{length} <= {field.max_length}"] if field.max_length is not None else []),
    ]
    return " AND ".join(parts) or None


def _range_check(field: Field, column: str) -> str | None:
    low, high = bounds(field)
    parts = [
        *([f"{column} >= {sql_literal(low)}"] if low is not None else []),
        *([f"{column} <= {sql_literal(high)}"] if high is not None else []),
    ]
    return " AND ".join(parts) or None


def _instance(cls: type, words: str) -> Callable[[Field, object], object]:
    def value(_field: Field, given: object) -> object:
        if not isinstance(given, cls):
            raise ValueError(f"must be {words}")
        return given

    return value


_string: Final = _instance(str, "a string")


def _integer(_field: Field, value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _float(_field: Field, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("must fit a double") from None
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _decimal(_field: Field, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError("must be a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number


def _uuid(_field: Field, value: object) -> object:
    try:
        return UUID(str(value))
    except ValueError:
        raise ValueError("must be a UUID, as a string") from None


def _no_value(_field: Field, _value: object) -> object:
    raise ValueError("cannot be given in a schema")


def _datetime(_field: Field, value: object) -> object:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a datetime with an offset, such as 2030-01-01T00:00:00Z")
    return value


def _date(_field: Field, value: object) -> object:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a date, such as 2030-01-01")
    return value


def _time(_field: Field, value: object) -> object:
    if not isinstance(value, time):
        raise ValueError("must be a time, such as 09:30:00")
    return value
