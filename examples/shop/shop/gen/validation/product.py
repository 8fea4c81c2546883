"""What the fields of a product must satisfy."""

from collections.abc import Mapping
from typing import Final

from forgecore.runtime import Rule, rules

RULES: Final[Mapping[str, Rule]] = {
    "title": rules.text(max_length=200),
    "price": rules.decimal(10, 2, minimum=0),
    "status": rules.one_of(["draft", "active", "archived"]),
    "sku": rules.text(),
    "category_id": rules.optional(rules.uuid),
}
