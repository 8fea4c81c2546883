"""Workers of Product."""

import asyncio

from forgecore_jobs import AsyncJob, Job, worker

from shop.gen.actions.product import (
    AsyncProductActions,
    IndexProductArgs,
    NotifyNewProductArgs,
    ProductActions,
)
from shop.mailer import mailer


@worker(NotifyNewProductArgs)
def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:
    """Run after the transaction that created a product has committed."""
    product = ProductActions(job.tx).get(args.resource_id)
    mailer.announce(job.tenant_id, product.title)


@worker(IndexProductArgs)
async def index_product(args: IndexProductArgs, job: AsyncJob) -> None:
    """Run after the transaction that created or changed a product has committed."""
    product = await AsyncProductActions(job.tx).get(args.resource_id)
    await asyncio.sleep(0.05)  # a search engine that takes its time
    print(f"  indexed for {job.tenant_id}: {product.title} at {product.price}", flush=True)
