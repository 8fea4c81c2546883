"""Every kind of the schema: `Workers(...)` with its workers is what a type checker can judge."""

from attrs import frozen
from forgecore_jobs import Worker

from shop.gen.actions.order_item import ReserveStockArgs
from shop.gen.actions.product import IndexProductArgs, NotifyNewProductArgs


@frozen(kw_only=True)
class Workers:
    """The worker of each kind; one that is missing, or of another kind, is a type error."""

    index_product: Worker[IndexProductArgs]
    notify_new_product: Worker[NotifyNewProductArgs]
    reserve_stock: Worker[ReserveStockArgs]
