"""A job is written with its record: one statement, both or neither."""

import json
import signal
import subprocess
import sys
import time
import uuid
from decimal import Decimal

import attrs
import psycopg
import pytest
from forgecore_jobs import enqueue, enqueue_async, enqueue_many, enqueue_many_async

from forgecore.runtime import (
    EnqueueError,
    NotFoundError,
    TransactionAbortedError,
    acting,
    connect,
)


@pytest.fixture
def products(flavour):
    return flavour.actions("product", "Product")


def new(sku="L-1", **more):
    from shop.gen.models.product import ProductCreate

    return ProductCreate(**{"title": "Lamp", "price": Decimal("9.90"), "sku": sku, **more})


def change(**what):
    from shop.gen.models.product import ProductUpdate

    return ProductUpdate(**what)


def jobs(sql):
    return sql.execute(
        "SELECT kind, queue, args, tenant_id, max_attempts, backoff FROM forge.jobs ORDER BY id"
    ).fetchall()


def kinds(sql):
    return [row[0] for row in jobs(sql)]


def xmins(sql, *tables):
    return {row[0] for table in tables for row in sql.execute(f"SELECT xmin::text FROM {table}")}


def test_create_writes_the_row_and_its_job_in_one_statement(products, tenant, sql):
    made = products.create(new())

    assert jobs(sql) == [
        (
            "notify_new_product",
            "notifications",
            {"resource_id": str(made.id), "tenant_id": str(tenant)},
            tenant,
            None,
            None,
        )
    ]
    assert len(xmins(sql, "products", "forge.jobs")) == 1


def test_several_hooks_enqueue_in_the_order_of_their_declaration(products, flavour, tenant, sql):
    from shop.gen.models.review import ReviewCreate

    product = products.create(new())
    sql.execute("DELETE FROM forge.jobs")
    flavour.actions("review", "Review").create(ReviewCreate(stars=3, product_id=product.id))

    assert kinds(sql) == ["count_stars", "thank_reviewer", "moderate_review"]
    assert len(xmins(sql, "reviews", "forge.jobs")) == 1
    priorities = sql.execute("SELECT priority FROM forge.jobs ORDER BY id").fetchall()
    assert priorities == [(5,), (1,), (5,)]


def test_update_enqueues_once_and_only_if_something_changed(products, tenant, sql):
    made = products.create(new())
    sql.execute("DELETE FROM forge.jobs")

    products.update(made.id, change(title="Torch"))
    products.update(made.id, change(title="Torch"))

    ((kind, queue, *_, max_attempts, backoff),) = jobs(sql)
    assert (kind, queue, max_attempts, backoff) == ("reindex_product", "search", 3, "constant:1s")
    assert len(xmins(sql, "products", "forge.jobs")) == 1


def test_update_of_nothing_enqueues_nothing(products, tenant, sql):
    made = products.create(new())
    gone = products.create(new("L-2"))
    products.delete(gone.id)
    sql.execute("DELETE FROM forge.jobs")

    with acting(tenant=uuid.uuid4()), pytest.raises(NotFoundError):
        products.update(made.id, change(title="x"))
    for missing in (uuid.uuid4(), gone.id):
        with pytest.raises(NotFoundError):
            products.update(missing, change(title="x"))

    assert jobs(sql) == []


def test_delete_enqueues_once(products, flavour, tenant, sql):
    from shop.gen.models.audit_entry import AuditEntryCreate
    from shop.gen.models.review import ReviewCreate

    product = products.create(new())
    review = flavour.actions("review", "Review").create(
        ReviewCreate(stars=1, product_id=product.id)
    )
    audits = flavour.actions("audit_entry", "AuditEntry")
    audit = audits.create(AuditEntryCreate(text="x"))
    sql.execute("DELETE FROM forge.jobs")

    flavour.actions("review", "Review").delete(review.id)
    audits.delete(audit.id)
    with pytest.raises(NotFoundError):
        audits.delete(audit.id)

    assert kinds(sql) == ["forget_review", "erase_audit"]


def test_restore_fires_the_hooks_of_update(products, tenant, sql):
    made = products.create(new())
    products.delete(made.id)
    sql.execute("DELETE FROM forge.jobs")

    products.restore(made.id)

    assert kinds(sql) == ["reindex_product"]


def test_without_a_tenant_the_job_says_null(flavour, sql):
    from shop.gen.models.audit_entry import AuditEntryCreate

    with acting(tenant=uuid.uuid4()):
        flavour.actions("audit_entry", "AuditEntry").create(AuditEntryCreate(text="x"))

    ((kind, _, args, tenant_id, *_),) = jobs(sql)
    assert (kind, args["tenant_id"], tenant_id) == ("ship_audit", None, None)


def test_one_kind_of_two_events_has_one_class(shop, flavour, sql):
    import shop.gen.actions.audit_entry as module
    from shop.gen.models.audit_entry import AuditEntryCreate, AuditEntryUpdate

    audits = flavour.actions("audit_entry", "AuditEntry")
    made = audits.create(AuditEntryCreate(text="x"))
    audits.update(made.id, AuditEntryUpdate(text="y"))

    assert kinds(sql) == ["ship_audit", "ship_audit"]
    assert [n for n in vars(module) if n.endswith("Args")] == ["ShipAuditArgs", "EraseAuditArgs"]


def test_a_caller_cannot_name_the_tenant(shop):
    from shop.gen.models.product import ProductCreate

    with pytest.raises(TypeError):
        ProductCreate(title="x", sku="x", price=Decimal(1), tenant_id=uuid.uuid4())


def test_a_rolled_back_create_leaves_no_job(shop, db, tenant, sql, url):
    from shop.gen.actions.product import ProductActions

    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        ProductActions(tx).create(new())
        _ = 1 / 0
    with psycopg.connect(url) as conn, pytest.raises(ZeroDivisionError), conn.transaction():
        ProductActions(conn).create(new())
        _ = 1 / 0
    with psycopg.connect(url) as conn:
        with pytest.raises(ZeroDivisionError), conn.transaction():
            ProductActions(conn).create(new())
            _ = 1 / 0
        ProductActions(conn).create(new("other"))
    with db.transaction() as tx:
        with pytest.raises(ZeroDivisionError), tx.transaction() as inner:
            ProductActions(inner).create(new())
            _ = 1 / 0
        with pytest.raises(ZeroDivisionError), db.transaction():
            ProductActions(db).create(new())
            _ = 1 / 0

    assert sql.execute("SELECT sku FROM products").fetchall() == [("other",)]
    assert kinds(sql) == ["notify_new_product"]


def test_a_transaction_that_the_server_aborted_raises_at_its_end(shop, flavour, tenant, sql):
    from forgecore.runtime import ConflictError

    products = flavour.actions("product", "Product")

    async def swallowed():
        from shop.gen.actions.product import AsyncProductActions

        async with flavour.db.transaction() as tx:
            await AsyncProductActions(tx).create(new())
            with pytest.raises(ConflictError):
                await AsyncProductActions(tx).create(new())

    def swallowed_sync():
        from shop.gen.actions.product import ProductActions

        with flavour.db.transaction() as tx:
            ProductActions(tx).create(new())
            with pytest.raises(ConflictError):
                ProductActions(tx).create(new())

    with acting(tenant=tenant), pytest.raises(TransactionAbortedError):
        if flavour.name == "sync":
            swallowed_sync()
        else:
            flavour.run(swallowed())

    assert list(products.list()) == []
    assert jobs(sql) == []


def test_a_failing_outbox_takes_the_record_with_it(products, tenant, sql):
    sql.execute("DROP TABLE forge.jobs CASCADE")

    with pytest.raises(EnqueueError) as error:
        products.create(new())

    assert error.value.kinds == ("notify_new_product",)
    assert "notify_new_product" in str(error.value)
    assert "forgecore migrate up" in str(error.value)
    assert sql.execute("SELECT count(*) FROM products").fetchone() == (0,)


def test_an_error_of_the_outbox_names_every_kind_of_the_statement(products, flavour, tenant, sql):
    from shop.gen.models.review import ReviewCreate

    product = products.create(new())
    sql.execute("ALTER TABLE forge.jobs ADD CHECK (kind <> 'moderate_review')")

    with pytest.raises(EnqueueError) as error:
        flavour.actions("review", "Review").create(ReviewCreate(stars=3, product_id=product.id))

    assert error.value.kinds == ("count_stars", "thank_reviewer", "moderate_review")


def test_an_enqueue_joins_the_callers_transaction(shop, db, tenant, sql):
    from shop.gen.actions.product import ProductActions, ReindexProductArgs

    def everything(tx):
        first = ProductActions(tx).create(new("a"))
        ProductActions(tx).create(new("b"))
        tx.execute("INSERT INTO order_items (id, quantity) VALUES (%s, 1)", (uuid.uuid4(),))
        return enqueue(tx, ReindexProductArgs(resource_id=first.id, tenant_id=tenant))

    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        everything(tx)
        _ = 1 / 0
    assert jobs(sql) == []
    with db.transaction() as tx:
        job_id = everything(tx)

    assert len(xmins(sql, "products", "order_items", "forge.jobs")) == 1
    row = sql.execute("SELECT kind, queue, max_attempts FROM forge.jobs WHERE id = %s", (job_id,))
    assert row.fetchone() == ("reindex_product", "search", 3)


def test_enqueue_takes_what_the_call_says(shop, flavour, tenant, sql, url):
    from datetime import UTC, datetime, timedelta

    from shop.gen.actions.product import ReindexProductArgs

    args = ReindexProductArgs(resource_id=uuid.uuid4(), tenant_id=tenant)
    later = datetime.now(UTC) + timedelta(days=1)
    call = enqueue if flavour.name == "sync" else enqueue_async
    with acting(tenant=tenant):
        job_id = flavour.run(
            call(flavour.db, args, queue="default", run_at=later, priority=0, max_attempts=9)
        )

    row = sql.execute(
        "SELECT id, queue, run_at, priority, max_attempts, args FROM forge.jobs"
    ).fetchone()
    assert row == (
        job_id, "default", later, 0, 9,
        {"resource_id": str(args.resource_id), "tenant_id": str(tenant)},
    )  # fmt: skip
    state = sql.execute("SELECT state, attempt, errors FROM forge.jobs_all").fetchone()
    assert state == ("scheduled", 0, [])


def test_a_kind_without_a_hook_has_the_tenant_of_the_caller(shop, db, tenant, sql):
    from typing import ClassVar

    @attrs.frozen
    class TidyArgs:
        kind: ClassVar[str] = "tidy"
        depth: int
        names: tuple[str, ...] = ()

    enqueue(db, TidyArgs(3, ("a",)))
    with acting(tenant=None):
        enqueue(db, TidyArgs(4))

    rows = sql.execute("SELECT queue, args, tenant_id FROM forge.jobs ORDER BY id").fetchall()
    assert rows == [
        ("default", {"depth": 3, "names": ["a"]}, tenant),
        ("default", {"depth": 4, "names": []}, None),
    ]


def test_arguments_that_cannot_be_stored_are_refused_before_anything_is_sent(shop, db, sql):
    from typing import Any, ClassVar

    @attrs.frozen
    class AnyArgs:
        kind: ClassVar[str] = "any"
        value: Any

    for bad in ("a\0b", "\ud800", float("nan"), object(), "x" * (1 << 21), {"a": ["\0"]}):
        with pytest.raises(EnqueueError, match="any") as error:
            enqueue(db, AnyArgs(bad))
        assert "\0" not in str(error.value)

    assert jobs(sql) == []


def test_an_action_is_one_message_to_the_server(shop, tenant, sql, url):
    from shop.gen.actions.product import ProductActions
    from shop.gen.actions.review import ReviewActions
    from shop.gen.models.review import ReviewCreate

    with psycopg.connect(url, autocommit=True) as conn:
        products, reviews = ProductActions(conn), ReviewActions(conn)
        product = products.create(new())
        products.update(product.id, change(title="warm"))
        reviews.create(ReviewCreate(stars=1, product_id=product.id))

        sent = _messages(conn, lambda: reviews.create(ReviewCreate(stars=2, product_id=product.id)))
        changed = _messages(conn, lambda: products.update(product.id, change(title="x")))

    assert (sent.count("Execute"), sent.count("Sync")) == (1, 1)
    assert (changed.count("Execute"), changed.count("Sync")) == (1, 1)
    # Prepared at first use: no statement is parsed a second time.
    assert sent.count("Parse") == changed.count("Parse") == 0


def _messages(conn, call):
    import tempfile

    with tempfile.TemporaryFile() as trace:
        conn.pgconn.trace(trace.fileno())
        call()
        conn.pgconn.untrace()
        trace.seek(0)
        lines = trace.read().decode(errors="replace").splitlines()
    words = [line.split("\t") for line in lines if "\tF\t" in line]
    return [next(part for part in parts if part.isalpha() and len(part) > 1) for parts in words]


@pytest.mark.parametrize("how", ["forgecore", "psycopg"])
def test_a_killed_process_leaves_both_or_neither(shop, sql, url, how):
    tenant = uuid.uuid4()
    code = f"""
import sys, time, uuid
from decimal import Decimal
import psycopg
from forgecore.runtime import acting, connect
from shop.gen.actions.product import ProductActions
from shop.gen.models.product import ProductCreate

def new(sku):
    return ProductCreate(title="x", sku=sku, price=Decimal(1))

with connect() as db, acting(tenant=uuid.UUID("{tenant}")):
    if {how == "forgecore"!r}:
        with db.transaction() as tx:
            ProductActions(tx).create(new("kept"))
        with db.transaction() as tx:
            ProductActions(tx).create(new("lost"))
            print("open", flush=True)
            time.sleep(60)
    else:
        conn = psycopg.connect("{url}")
        ProductActions(conn).create(new("kept"))
        conn.commit()
        ProductActions(conn).create(new("lost"))
        print("open", flush=True)
        time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=shop.environ, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    child.send_signal(signal.SIGKILL)
    child.wait()

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _open_transactions(sql):
        time.sleep(0.05)
    assert sql.execute("SELECT sku FROM products").fetchall() == [("kept",)]
    assert kinds(sql) == ["notify_new_product"]


def _open_transactions(sql):
    return sql.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    ).fetchone() != (0,)


def test_a_resource_without_hooks_knows_nothing_of_jobs(built, project):
    text = built.read("shop/gen/actions/order_item.py")

    assert not any(word in text for word in ("forgecore_jobs", "forge.jobs", "enqueue"))

    before = None
    for plugins in ("[]", '["jobs"]'):
        project.write("forge.toml", f'[project]\nname = "shop"\nplugins = {plugins}\n')
        project.write("schema/order_item.toml", built.read("schema/order_item.toml"))
        project.ok("build")
        now = {
            path.relative_to(project.folder): path.read_bytes()
            for path in sorted((project.folder / "shop" / "gen").rglob("*.*"))
            if path.parent.name != "jobs" and "__pycache__" not in path.parts
        }
        assert before in (None, now)
        before = now


def test_the_web_side_imports_neither_dramatiq_nor_the_build(shop):
    done = shop.python(
        "import sys, shop.gen.actions.product, forgecore_jobs\n"
        "print([m for m in ('dramatiq','mako','pluggy','cattrs','click','tree_sitter','ruff')"
        " if m in sys.modules])"
    )

    assert done.stdout == "[]\n", done.stderr


def test_actions_import_without_what_the_user_owns(own_shop):
    (own_shop.folder / "shop" / "resources").rename(own_shop.folder / "away")

    done = own_shop.python(
        "import shop.gen.actions.product as m; print(m.NotifyNewProductArgs.kind)"
    )

    assert done.stdout == "notify_new_product\n", done.stderr


def test_arguments_have_exactly_these_keys_and_come_back(shop, tenant):
    from forgecore_jobs.arguments import encode
    from forgecore_jobs.engine.decode import _CONVERTER
    from shop.gen.actions.product import NotifyNewProductArgs

    args = NotifyNewProductArgs(resource_id=uuid.uuid4(), tenant_id=tenant)

    written = json.loads(encode(args))
    assert set(written) == {"resource_id", "tenant_id"}
    assert _CONVERTER.structure(written, NotifyNewProductArgs) == args


def test_it_all_works_behind_a_pooler(shop, tenant, sql, monkeypatch):
    from shop.gen.actions.product import ProductActions

    monkeypatch.setenv("FORGE_DATABASE_PREPARE", "false")
    with connect() as db:
        for n in range(8):
            ProductActions(db).create(new(f"s{n}"))
        with db.borrow() as conn:
            assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_many_jobs_are_written_at_once_with_their_ids(shop, db, sql, tenant):
    import asyncio

    from shop.gen.actions.product import ReindexProductArgs

    from forgecore.runtime import connect_async

    args = [ReindexProductArgs(resource_id=uuid.uuid4(), tenant_id=tenant) for _ in range(3)]
    ids = enqueue_many(db, args, priority=2)

    async def more():
        async with connect_async() as adb, adb.transaction() as tx:
            return await enqueue_many_async(tx, args)

    ids += asyncio.run(more())
    with pytest.raises(ValueError), db.transaction() as tx:
        enqueue_many(tx, args)
        raise ValueError

    rows = sql.execute(
        "SELECT id, args ->> 'resource_id', tenant_id, priority, run_at <= now(), queue, kind"
        " FROM forge.jobs ORDER BY id"
    ).fetchall()
    assert [row[0] for row in rows] == ids
    assert [row[1] for row in rows] == [str(one.resource_id) for one in args] * 2
    assert {row[2:5] for row in rows} == {(tenant, 2, True), (tenant, 5, True)}
    assert enqueue_many(db, []) == []


def test_one_bad_job_keeps_all_out(db, sql, tenant):
    from shop.gen.actions.product import ReindexProductArgs

    good = ReindexProductArgs(resource_id=uuid.uuid4(), tenant_id=tenant)
    bad = ReindexProductArgs(resource_id=object(), tenant_id=tenant)

    with pytest.raises(EnqueueError, match="`resource_id` of type object has no JSON form"):
        enqueue_many(db, [good, bad])
    with pytest.raises(EnqueueError, match="priority"):
        enqueue_many(db, [good], priority=10)

    assert jobs(sql) == []


def test_sql_alone_enqueues(db, sql, tenant):
    job = sql.execute(
        "SELECT forge.enqueue('any_kind', '{\"a\": 1}', run_at => now() + interval '1 day',"
        " priority => 0, tenant_id => %s)",
        (tenant,),
    ).fetchone()[0]

    row = sql.execute(
        "SELECT kind, queue, args, tenant_id, priority, state FROM forge.jobs_all WHERE id = %s",
        (job,),
    ).fetchone()
    assert row == ("any_kind", "default", {"a": 1}, tenant, 0, "scheduled")
