"""Transactions: joining, savepoints, threads and tasks, errors at commit."""

import asyncio
import threading

import psycopg
import pytest

from forgecore.runtime import (
    DatabaseUnavailableError,
    InvalidReferenceError,
    RetryableError,
    TransactionEndedError,
    connect,
    connect_async,
)

COUNT = "SELECT count(*) FROM order_items"
INSERT = "INSERT INTO order_items (id, quantity) VALUES (gen_random_uuid(), 1)"


def count(sql):
    return sql.execute(COUNT).fetchone()[0]


def test_a_database_joins_the_open_transaction(db, sql):
    with db.transaction() as tx:
        tx.execute(INSERT)
        with db.borrow() as conn:
            conn.execute(INSERT)
        assert count(sql) == 0

    assert count(sql) == 2


def test_a_nested_transaction_is_a_savepoint(db, sql):
    with db.transaction() as tx:
        tx.execute(INSERT)
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero), db.transaction() as inner:
                inner.execute(INSERT)
                with inner.transaction() as innermost:
                    innermost.execute(INSERT)
                    innermost.execute("SELECT 1 / 0")
        with db.transaction() as inner:
            inner.execute(INSERT)

    assert count(sql) == 2


def test_a_thread_started_inside_has_its_own_connection(db, sql):
    def other():
        with db.borrow() as conn:
            conn.execute(INSERT)

    with db.transaction() as tx:
        tx.execute(INSERT)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert count(sql) == 1


def test_a_task_started_inside_has_its_own_connection(shop, sql):
    async def main():
        async with connect_async() as db:

            async def other():
                async with db.borrow() as conn:
                    await conn.execute(INSERT)

            async with db.transaction() as tx:
                await tx.execute(INSERT)
                await asyncio.create_task(other())
                assert count(sql) == 1
                await other()
                assert count(sql) == 1

    asyncio.run(main())
    assert count(sql) == 3


def test_sync_transactions_of_two_tasks_do_not_mix(db, sql):
    async def task(fail):
        with db.transaction() as tx:
            tx.execute(INSERT)
            await asyncio.sleep(0.05)
            with db.borrow() as conn:
                conn.execute(INSERT)
            if fail:
                raise ZeroDivisionError

    async def main():
        return await asyncio.gather(task(False), task(True), return_exceptions=True)

    asyncio.run(main())
    assert count(sql) == 2


def test_a_transaction_cannot_be_used_after_its_end(db):
    with db.transaction() as tx, tx.transaction() as inner:
        pass

    for ended in (tx, inner):
        with pytest.raises(TransactionEndedError, match="has ended"):
            ended.execute("SELECT 1")


def test_a_cancelled_task_rolls_back_and_the_pool_goes_on(shop, sql):
    async def main():
        async with connect_async() as db:

            async def slow():
                async with db.transaction() as tx:
                    await tx.execute(INSERT)
                    await tx.execute("SELECT pg_sleep(30)")

            tasks = [asyncio.create_task(slow()) for _ in range(12)]
            await asyncio.sleep(0.5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            async with db.transaction() as tx:
                await tx.execute(INSERT)

    asyncio.run(asyncio.wait_for(main(), 20))
    assert count(sql) == 1


def test_a_deferred_constraint_is_named_at_commit(db, shop, sql, tenant):
    import uuid

    import shop.gen.actions.product  # noqa: F401 -- what knows the constraint

    sql.execute(
        "ALTER TABLE products ALTER CONSTRAINT products_category_id_fkey DEFERRABLE INITIALLY DEFERRED"
    )

    with pytest.raises(InvalidReferenceError) as error, db.transaction() as tx:
        tx.execute(
            "INSERT INTO products (id, tenant_id, title, sku, price, category_id)"
            " VALUES (%(id)s, %(id)s, 'x', 'x', 1, %(id)s)",
            {"id": uuid.uuid4()},
        )
    assert error.value.fields == ("category_id",)


def test_a_serialization_failure_says_run_it_again(db, sql, tenant, shop):
    from decimal import Decimal

    from shop.gen.actions.product import ProductActions
    from shop.gen.models.product import ProductCreate, ProductUpdate

    made = ProductActions(db).create(ProductCreate(title="x", sku="x", price=Decimal(1)))
    with pytest.raises(RetryableError), db.transaction() as tx:
        tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ProductActions(tx).get(made.id)
        sql.execute("UPDATE products SET title = 'y'")
        ProductActions(tx).update(made.id, ProductUpdate(title="z"))


def test_no_server_is_said_at_once(shop, monkeypatch, tmp_path):
    with pytest.raises(DatabaseUnavailableError):
        connect("postgresql:///none?host=/nowhere")

    monkeypatch.setenv("FORGE_DATABASE_URL", "embedded")
    with pytest.raises(DatabaseUnavailableError, match="forgecore db start"):
        connect()

    async def main():
        async with connect_async("postgresql:///none?host=/nowhere"):
            pass

    with pytest.raises(DatabaseUnavailableError):
        asyncio.run(main())


def test_a_killed_connection_is_replaced(db, sql, tenant, shop):
    from shop.gen.actions.product import ProductActions

    assert list(ProductActions(db).list()) == []
    sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    with pytest.raises(DatabaseUnavailableError):
        ProductActions(db).list()
    assert list(ProductActions(db).list()) == []
