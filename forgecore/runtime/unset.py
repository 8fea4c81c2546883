"""The mark of a value that was left out, apart from None."""

from enum import Enum
from typing import Final, Literal


class _Mark(Enum):
    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"


Unset = Literal[_Mark.UNSET]
UNSET: Final = _Mark.UNSET
