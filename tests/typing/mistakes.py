"""Never run: each line that ends in `# E` must be an error of type."""

from decimal import Decimal
from typing import Any, cast
from uuid import uuid4

from forgecore.runtime import connect
from forgecore_jobs import AsyncJob, Job, enqueue, enqueue_many, worker
from shop.gen.actions.product import NotifyNewProductArgs, ProductActions, ReindexProductArgs
from shop.gen.jobs.workers import Workers
from shop.gen.models.category import CategoryColumns
from shop.gen.models.order import OrderCreate
from shop.gen.models.product import ProductColumns, ProductCreate, ProductUpdate

db = connect()
products = ProductActions(db)
good = ProductCreate(title="x", sku="x", price=Decimal(1))
product = products.create(good)

ProductCreate(title="x", sku="x", price=1.5)  # E
ProductCreate(title="x", price=Decimal(1))  # E
ProductCreate(title="x", sku="x", price=Decimal(1), tenant_id=uuid4())  # E
ProductUpdate(sku="immutable")  # E
ProductUpdate(title=None)  # E
ProductUpdate(note=None)
OrderCreate(state="unheard of")  # E
OrderCreate(state="new")
products.get("an id")  # E
product.title = "frozen"  # E
products.create(ProductUpdate(title="x"))  # E

products.list(ProductColumns.title.contains("x") & ProductColumns.price.gte(Decimal(1)))
products.list(ProductColumns.price.gte("1"))  # E
products.list(CategoryColumns.id.eq(uuid4()))  # E
products.list(order_by=ProductColumns.price.desc())
products.list(order_by=ProductColumns.note.desc())  # E
products.list(order_by=CategoryColumns.id.desc())  # E
products.list(ProductColumns.sku.eq("not filterable"))  # E


def run_time_text(text: str) -> None:
    """SQL that is put together at run time is refused where literal text is asked for."""
    with db.transaction() as tx:
        tx.execute("SELECT " + text)  # E pyright


@worker(NotifyNewProductArgs)
def fine(args: NotifyNewProductArgs, job: Job) -> None:
    """Take the right class."""


@worker(NotifyNewProductArgs)
async def fine_too(args: NotifyNewProductArgs, job: AsyncJob) -> None:
    """Take the right class."""


@worker(NotifyNewProductArgs)  # E
def wrong_class(args: ReindexProductArgs, job: Job) -> None:
    """Take another kind's class."""


@worker(NotifyNewProductArgs)  # E
def returns(args: NotifyNewProductArgs, job: Job) -> int:
    """Return a value."""
    return 1


@worker(NotifyNewProductArgs)  # E
async def wrong_job(args: NotifyNewProductArgs, job: Job) -> None:
    """Take the job of the other flavour."""


enqueue(db, NotifyNewProductArgs(resource_id=uuid4(), tenant_id=uuid4()))
enqueue(db, {"resource_id": "x"})  # E
enqueue(db, NotifyNewProductArgs(resource_id="x", tenant_id=uuid4()))  # E
enqueue(db, NotifyNewProductArgs(resource_id=uuid4()))  # E


def wrong_error(args: ReindexProductArgs, job: Job, error: BaseException) -> None:
    """Take another kind's class."""


@worker(NotifyNewProductArgs, on_error=wrong_error)  # E
def with_callback(args: NotifyNewProductArgs, job: Job) -> None:
    """Have a callback of another kind."""


fine(ReindexProductArgs(resource_id=uuid4(), tenant_id=uuid4()), Job)  # E
enqueue_many(db, [NotifyNewProductArgs(resource_id=uuid4(), tenant_id=uuid4())])
enqueue_many(db, [{"resource_id": "x"}])  # E
rest = cast("dict[str, Any]", {})
Workers(notify_new_product=fine, **rest)
Workers(reindex_product=fine, **rest)  # E
Workers(notify_new_product=fine)  # E
