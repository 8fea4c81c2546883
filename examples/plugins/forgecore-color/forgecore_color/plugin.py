"""The field type `color`: text such as #ff8800."""

import re
from collections.abc import Iterable
from typing import Final

from forgecore.plugin import (
    Code,
    Field,
    FieldType,
    FieldTypesContext,
    Import,
    hookimpl,
)

_FORM: Final = "#[0-9a-f]{6}"
_RULES: Final = Import("forgecore.runtime", "rules")


@hookimpl
def forgecore_field_types(ctx: FieldTypesContext) -> Iterable[FieldType]:
    """Give the type `color`."""
    yield FieldType(
        name="color",
        python=lambda field: Code("str"),
        sql=lambda field: "text",
        rule=lambda field: Code(f'rules.text(pattern="{_FORM}")', (_RULES,)),
        value=_value,
        check=lambda field, column: f"{column} ~ '^{_FORM}$'",
    )


def _value(field: Field, value: object) -> str:
    """Return a default of the schema; ValueError says what it must be."""
    if not isinstance(value, str) or not re.fullmatch(_FORM, value):
        raise ValueError('must be a colour, such as "#ff8800"')
    return value
