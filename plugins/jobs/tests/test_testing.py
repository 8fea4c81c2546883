"""The fixtures that a project's own tests use, in a run of pytest of their own."""

import subprocess
import sys
from pathlib import Path

from conftest import Project, Server

SCHEMA = """
[resource]
name = "Product"
tenant_scoped = true
timestamps = true

[fields]
title = { type = "string", required = true, max_length = 12 }
sku = { type = "string", required = true, pattern = "[A-Z]{3}-[0-9]+" }
price = { type = "decimal", precision = 8, scale = 2, required = true, min = 5 }
stock = { type = "int", required = true }
live = { type = "bool", required = true }
since = { type = "date", required = true }

[[hooks.after_create]]
kind = "index_product"

[[hooks.after_update]]
kind = "reprice_product"
backoff = "constant:1h"
"""
WORKERS = """
from forgecore_jobs import Job, worker
from forgecore.runtime import current_tenant
from shop.gen.actions.product import IndexProductArgs, ProductActions, RepriceProductArgs
from shop.gen.models.product import ProductUpdate

@worker(IndexProductArgs)
def index_product(args: IndexProductArgs, job: Job) -> None:
    assert current_tenant() == args.tenant_id
    ProductActions(job.tx).update(args.resource_id, ProductUpdate(title="indexed"))

@worker(RepriceProductArgs)
def reprice_product(args: RepriceProductArgs, job: Job) -> None:
    if job.failures == 0:
        raise ValueError("the first time")
"""
TESTS = """
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from forgecore.runtime import acting
from shop.gen.actions.product import IndexProductArgs, ProductActions, RepriceProductArgs
from shop.gen.models.product import ProductCreate, ProductUpdate


@pytest.fixture(autouse=True)
def tenant():
    with acting(tenant=UUID(int=1)) as inner:
        yield inner.tenant


def new(make, **given):
    return make(ProductCreate, sku="ABC-1", **given)


def test_a_hook_enqueues_in_the_open_transaction(db, jobs, make, tenant):
    with db.transaction() as tx:
        product = ProductActions(tx).create(new(make))
        jobs.assert_enqueued(IndexProductArgs(product.id, tenant), queue="default", count=1)
        jobs.assert_not_enqueued(RepriceProductArgs)
        tx_jobs = jobs.enqueued()
    assert [job.kind for job in tx_jobs] == ["index_product"]


def test_every_test_has_a_database_of_its_own(db, jobs):
    jobs.assert_not_enqueued()
    assert ProductActions(db).list().items == []


def test_drain_runs_what_the_workers_write_too(db, jobs, clock, make):
    product = ProductActions(db).create(new(make))
    ran = jobs.drain()
    assert [(one.kind, one.state) for one in ran] == [
        ("index_product", "completed"), ("reprice_product", "retryable"),
    ]
    assert str(ran[1].error) == "the first time"
    assert ProductActions(db).get(product.id).title == "indexed"
    assert jobs.drain() == []
    clock.move(timedelta(hours=2))
    assert [one.state for one in jobs.drain()] == ["completed"]


def test_run_one_raises_what_the_worker_raises(db, jobs, make, tenant):
    product = ProductActions(db).create(new(make))
    with pytest.raises(ValueError, match="the first time"):
        jobs.run_one(RepriceProductArgs(product.id, tenant))
    jobs.run_one(IndexProductArgs(product.id, tenant))
    jobs.assert_enqueued(IndexProductArgs(product.id, tenant))


def test_what_is_not_committed_cannot_run(db, jobs, make, tenant):
    with db.transaction() as tx:
        product = ProductActions(tx).create(new(make))
        for run in (jobs.drain, lambda: jobs.run_one(IndexProductArgs(product.id, tenant))):
            with pytest.raises(RuntimeError, match="leave `db.transaction"):
                run()


def test_the_database_follows_the_clock(db, jobs, clock, make):
    at = datetime(2030, 5, 1, 12, tzinfo=UTC)
    clock.freeze(at)
    product = ProductActions(db).create(new(make))
    assert product.created_at == at
    assert jobs.enqueued()[0].run_at == at
    assert [one.state for one in jobs.drain(queue="default")][0] == "completed"
    clock.run()
    assert clock.now() < at


def test_what_waits_is_shown(db, jobs, make):
    ProductActions(db).create(new(make))
    with pytest.raises(AssertionError, match="index_product .* in default"):
        jobs.assert_enqueued(RepriceProductArgs)
    with pytest.raises(AssertionError):
        jobs.assert_enqueued(IndexProductArgs, count=2)
    with pytest.raises(AssertionError):
        jobs.assert_not_enqueued(IndexProductArgs)


def test_factories_follow_the_rules(make):
    one, other = new(make), new(make)
    assert one.title != other.title
    assert one.price >= 5
    with pytest.raises(TypeError, match="needs `sku`"):
        make(ProductCreate)
"""


def test_a_projects_tests_use_the_fixtures(project: Project, server: Server) -> None:
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs"]\n')
    project.write("schema/product.toml", SCHEMA)
    project.write("shop/resources/product/jobs.py", WORKERS)
    project.write("tests/test_shop.py", TESTS)
    project.ok("build")
    project.url = server.database("forge_for_diff")
    project.ok("migrate", "up")
    project.ok("migrate", "diff")
    server.drop("forge_for_diff")
    project.url = None

    done = run(project.folder, {**project.environ, "FORGE_TEST_DATABASE_URL": server.url})

    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def run(folder: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).parent / "pytest"), "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
