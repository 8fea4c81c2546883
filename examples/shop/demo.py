"""The shop from nothing: build, migrate, create for two tenants, roll back, run the jobs."""

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

HERE = Path(__file__).parent
ALMA, BRIO = uuid4(), uuid4()


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def forgecore(*arguments: str) -> None:
    """Run a command of the tool, and show it."""
    print(f"$ forgecore {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "forgecore", *arguments], check=True)


def main() -> None:
    """Run the demo."""
    os.environ["FORGE_PROJECT_DIR"] = str(HERE)
    os.environ["PYTHONPATH"] = str(HERE)
    say("From the schema to code and tables")
    forgecore("db", "reset", "--yes")
    try:
        forgecore("build")
        forgecore("migrate", "up")
        forgecore("migrate", "diff")
        sys.path.insert(0, str(HERE))
        create()
        run_jobs()
    finally:
        forgecore("db", "stop")


def create() -> None:
    """Create records for two tenants, and roll one back."""
    from forgecore.runtime import acting, connect  # noqa: PLC0415 -- built just now

    from shop.gen.actions.category import CategoryActions  # noqa: PLC0415
    from shop.gen.actions.order_item import OrderItemActions  # noqa: PLC0415
    from shop.gen.actions.product import ProductActions  # noqa: PLC0415
    from shop.gen.models.category import CategoryCreate  # noqa: PLC0415
    from shop.gen.models.order_item import OrderItemCreate  # noqa: PLC0415
    from shop.gen.models.product import ProductCreate, ProductUpdate  # noqa: PLC0415

    def lamp(title: str, sku: str, category: UUID | None = None) -> ProductCreate:
        return ProductCreate(title=title, price=Decimal("9.90"), sku=sku, category_id=category)

    with connect() as db:
        say("Records of two tenants, each with its jobs in the same statement")
        with acting(tenant=ALMA):
            lamps = CategoryActions(db).create(CategoryCreate(name="Lamps"))
            desk = ProductActions(db).create(lamp("Desk lamp", "L-1", lamps.id))
            item = OrderItemCreate(quantity=3, unit_price=desk.price, product_id=desk.id)
            OrderItemActions(db).create(item)
        with acting(tenant=BRIO):
            floor = ProductActions(db).create(lamp("Floor lamp", "L-1"))
        show(db)

        say("An update that changes nothing enqueues nothing; one that does, one job")
        with acting(tenant=BRIO):
            ProductActions(db).update(floor.id, ProductUpdate(title="Floor lamp"))
            ProductActions(db).update(floor.id, ProductUpdate(price=Decimal("12.50")))
        show(db)

        say("A rolled-back product takes its jobs with it")
        try:
            with acting(tenant=ALMA), db.transaction() as tx:
                ProductActions(tx).create(lamp("Never lamp", "L-2"))
                count = tx.execute("SELECT count(*) FROM forge.jobs").fetchone()
                print(f"inside the transaction: {count} jobs", flush=True)
                _ = 1 / 0
        except ZeroDivisionError:
            show(db)


def show(db: object) -> None:
    """Print rows and jobs with the transaction that wrote them."""
    from forgecore.runtime import Database  # noqa: PLC0415

    assert isinstance(db, Database)
    with db.borrow() as conn:
        rows = conn.execute(
            "SELECT xmin::text, 'product ' || title FROM products"
            " UNION ALL SELECT xmin::text, 'order item x' || quantity FROM order_items"
            " UNION ALL SELECT xmin::text, '  job ' || id || ' ' || kind FROM forge.jobs"
            " ORDER BY 1, 2 DESC"
        )
        for xmin, what in rows:
            print(f"  xmin {xmin}  {what}", flush=True)


def run_jobs() -> None:
    """Run the worker until every job has ended, and print what ran for whom."""
    from forgecore.runtime import connect  # noqa: PLC0415

    say("The worker, with the tenant of each job restored")
    print("$ forgecore jobs work", flush=True)
    quiet = {**os.environ, "FORGE_ENV": "production"}
    with (HERE / ".forge" / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "forgecore", "jobs", "work"], stderr=log, env=quiet
        )
    with connect() as db, db.borrow() as conn:
        deadline = time.monotonic() + 15
        while conn.execute("SELECT FROM forge.jobs").rowcount and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        say("What ran for which tenant")
        names = {ALMA: "Alma", BRIO: "Brio"}
        rows = conn.execute(
            "SELECT tenant_id, kind, state, attempt FROM forge.jobs_all ORDER BY tenant_id, id"
        )
        for tenant, kind, state, attempt in rows:
            print(f"  {names[tenant]}: {kind} {state} (attempt {attempt})", flush=True)


if __name__ == "__main__":
    main()
