"""The type of a json field's value."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""What jsonb holds. None at the top is SQL's null; below, it is JSON's."""
