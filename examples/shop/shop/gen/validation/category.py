"""What the fields of a category must satisfy."""

from collections.abc import Mapping
from typing import Final

from forgecore.runtime import Rule, rules

RULES: Final[Mapping[str, Rule]] = {
    "name": rules.text(max_length=80),
    "parent_id": rules.optional(rules.uuid),
}
