"""Workers of OrderItem."""

from forgecore_jobs import Job, worker

from shop.gen.actions.order_item import OrderItemActions, ReserveStockArgs


@worker(ReserveStockArgs)
def reserve_stock(args: ReserveStockArgs, job: Job) -> None:
    """Run after the transaction that created an order item has committed."""
    item = OrderItemActions(job.tx).get(args.resource_id)
    print(f"  reserved {item.quantity} pieces for {job.tenant_id}", flush=True)
