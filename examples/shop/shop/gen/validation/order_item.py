"""What the fields of an order item must satisfy."""

from collections.abc import Mapping
from typing import Final

from forgecore.runtime import Rule, rules

RULES: Final[Mapping[str, Rule]] = {
    "quantity": rules.integer(32, minimum=1),
    "unit_price": rules.decimal(10, 2),
    "product_id": rules.uuid,
}
