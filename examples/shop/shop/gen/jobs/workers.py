"""Every kind of the schema with its worker, for a type checker to judge."""

from attrs import frozen
from forgecore_jobs import Worker

from shop.gen.actions.order_item import ReserveStockArgs
from shop.gen.actions.product import IndexProductArgs, NotifyNewProductArgs


@frozen(kw_only=True)
class Workers:
    """The worker of each kind; a missing or wrong one is a type error."""

    index_product: Worker[IndexProductArgs]
    notify_new_product: Worker[NotifyNewProductArgs]
    reserve_stock: Worker[ReserveStockArgs]
