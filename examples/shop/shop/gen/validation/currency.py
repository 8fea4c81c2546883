"""What the fields of a currency must satisfy."""

from collections.abc import Mapping
from typing import Final

from forgecore.runtime import Rule, rules

RULES: Final[Mapping[str, Rule]] = {
    "code": rules.text(min_length=3, max_length=3),
    "symbol": rules.optional(rules.text()),
}
