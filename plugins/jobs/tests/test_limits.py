"""Limits over all processes: at once, in a time, for each tenant; turns of tenants, priorities."""

import json
import time
import uuid

import pytest

SCHEMA = """
[resource]
name = "Product"

[fields]
title = { type = "string", required = true }
"""
CONFIG = """
[project]
name = "shop"
plugins = ["jobs", "scaffold"]

[jobs.queues]
few = 2
fast = 10
each = 10
fair = 4
best = 2

[jobs]
round_robin = ["fair"]

[jobs.global_limits]
few = 5

[jobs.rate_limits]
fast = "10/2s"

[jobs.tenant_limits]
each = 2
"""
WORKERS = """
import uuid
from typing import ClassVar
from attrs import frozen

@frozen
class SpanArgs:
    kind: ClassVar[str] = "span"
    seconds: float

@worker(SpanArgs)
def span(args, job):
    begun = time.time()
    time.sleep(args.seconds)
    with open("spans", "a") as file:
        file.write(f"{job.id} {job.tenant_id} {begun} {time.time()} {os.getpid()}\\n")
"""


@pytest.fixture(scope="module")
def ready(building):
    config = CONFIG.replace('\n[jobs]\nround_robin = ["fair"]\n', "").replace(
        "[jobs.queues]", '[jobs]\nround_robin = ["fair"]\n\n[jobs.queues]'
    )
    return building(SCHEMA, config)


@pytest.fixture
def shop(shop):
    shop.write("shop/resources/product/__init__.py", "")
    shop.write(
        "shop/resources/product/jobs.py",
        "import os, time\nfrom forgecore_jobs import *\n" + WORKERS,
    )
    return shop


def put(shop, queue: str, count: int, seconds: float, **columns: object) -> list[int]:
    return [
        shop.enqueue(
            "span",
            queue=queue,
            args=json.dumps({"seconds": seconds}),
            **{"tenant_id": None, **columns},
        )
        for _ in range(count)
    ]


def spans(shop) -> list[tuple[int, str, float, float, int]]:
    """Return id, tenant, begin, end and process of what ran, by its begin."""
    lines = [line.split() for line in shop.read("spans").splitlines()]
    found = [(int(a), b, float(c), float(d), int(e)) for a, b, c, d, e in lines]
    return sorted(found, key=lambda span: span[2])


def most_at_once(found: list[tuple[int, str, float, float, int]]) -> int:
    edges = sorted(
        [(begin, 1) for _, _, begin, _, _ in found] + [(e, -1) for _, _, _, e, _ in found]
    )
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def test_eight_processes_keep_a_limit_of_five(shop):
    for _ in range(8):
        shop.work()
    shop.until(lambda: shop.sql.execute("SELECT FROM forge.job_workers").rowcount == 8)
    shop.sql.execute(
        "INSERT INTO forge.jobs (kind, queue, args) "
        "SELECT 'span', 'few', '{\"seconds\": 0.02}' FROM generate_series(1, 1000)"
    )
    most = 0
    deadline = time.monotonic() + 60
    count = "SELECT count(*), count(worker_id) FROM forge.jobs"
    while (row := shop.sql.execute(count).fetchone()) and row[0]:
        most = max(most, row[1])
        assert time.monotonic() < deadline, shop.log()

    found = spans(shop)
    assert len(found) == 1000
    assert most == 5
    assert most_at_once(found) <= 5
    assert len({process for *_, process in found}) > 2


def test_the_slots_of_a_killed_holder_are_free_within_the_lease(shop):
    put(shop, "few", 5, 300)
    holder = shop.work(FORGE_JOBS_QUEUES="few=10")
    shop.until(lambda: running(shop) == 5)
    put(shop, "few", 5, 0)
    other = shop.work()
    time.sleep(1)
    assert running(shop) == 5
    holder.kill()
    killed = time.monotonic()
    shop.until(lambda: running(shop, other_than=holder.pid) > 0, 25)

    assert time.monotonic() - killed < 15  # the lease is 10 s, looked at every 2
    assert running(shop) <= 5
    assert other.poll() is None


def running(shop, other_than: int = 0) -> int:
    row = shop.sql.execute(
        "SELECT count(*) FROM forge.jobs JOIN forge.job_workers AS worker "
        "ON worker.id = worker_id WHERE pid <> %s",
        (other_than,),
    ).fetchone()
    return row[0]


def test_no_more_jobs_begin_in_any_span_of_a_rate(shop):
    put(shop, "fast", 45, 0)
    for _ in range(4):
        shop.work()
    shop.drained(40)

    started = [
        row[0].timestamp()
        for row in shop.sql.execute(
            "SELECT started_at FROM forge.jobs_finished ORDER BY started_at"
        ).fetchall()
    ]
    assert len(started) == 45
    assert all(later - first > 1.95 for first, later in zip(started, started[10:], strict=False))
    assert started[-1] - started[0] < 14  # and not much slower than it may be


def test_each_tenant_has_its_own_limit(shop):
    tenants = [uuid.uuid4() for _ in range(3)]
    for tenant in tenants:
        put(shop, "each", 8, 0.2, tenant_id=tenant)
    for _ in range(3):
        shop.work()
    shop.drained(40)

    found = spans(shop)
    for tenant in tenants:
        own = [span for span in found if span[1] == str(tenant)]
        assert len(own) == 8
        assert most_at_once(own) == 2


def test_tenants_take_turns_however_much_one_of_them_has(shop):
    loud, quiet, none = uuid.uuid4(), uuid.uuid4(), None
    put(shop, "fair", 300, 0.02, tenant_id=loud)
    put(shop, "fair", 5, 0.02, tenant_id=quiet)
    put(shop, "fair", 5, 0.02, tenant_id=none)
    shop.work()
    shop.drained(40)

    order = [tenant for _, tenant, *_ in spans(shop)]
    last = max(place for place, tenant in enumerate(order) if tenant != str(loud))
    assert last < 24
    assert shop.sql.execute("SELECT FROM forge.job_turns").rowcount == 1


def test_within_a_tenant_the_best_priority_is_first(shop):
    tenant = uuid.uuid4()
    late = put(shop, "fair", 12, 0.01, tenant_id=tenant, priority=7)
    soon = put(shop, "fair", 12, 0.01, tenant_id=tenant, priority=1)
    shop.work()
    shop.drained(40)

    order = [job for job, *_ in spans(shop)]
    assert set(order[:10]) <= set(soon)
    assert set(order) == {*late, *soon}


def test_no_priority_waits_for_ever_behind_better_ones(shop):
    worst = put(shop, "best", 3, 0.02, priority=9)
    put(shop, "best", 400, 0.02, priority=0)
    shop.work()
    shop.drained(60)

    order = [job for job, *_ in spans(shop)]
    places = [order.index(job) for job in worst]
    assert places[0] < 400 - 20
    assert places[-1] < 400


def test_limits_that_cannot_be_are_told_with_their_place(build, project):
    project.write("schema/product.toml", SCHEMA)
    project.write(
        "forge.toml",
        '[project]\nname = "shop"\nplugins = ["jobs"]\n\n[jobs]\nround_robin = ["fiar"]\n\n'
        "[jobs.queues]\nfair = 2\n\n[jobs.global_limits]\nfair = 0\n\n"
        '[jobs.rate_limits]\nfair = "10 a minute"\ndefault = "0/min"\n',
    )
    status, _, errors = build()
    assert status == 1
    assert "forge.toml:12:8" in errors and "`jobs.global_limits.fair` must be at least 1" in errors
    assert "forge.toml:15:8" in errors and "must be a rate" in errors
    assert "forge.toml:16:11" in errors

    project.write(
        "forge.toml",
        '[project]\nname = "shop"\nplugins = ["jobs"]\n\n[jobs]\nround_robin = ["fiar"]\n\n'
        "[jobs.queues]\nfair = 2\n\n[jobs.tenant_limits]\nmial = 1\n",
    )
    status, _, errors = build()
    assert status == 1
    assert "forge.toml:6:16: error[jobs/unknown-queue]" in errors
    assert "did you mean `fair`?" in errors
    assert "forge.toml:12:" in errors


def test_a_suspect_of_a_queue_that_goes_by_tenant_runs_alone(shop):
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Settled, Store
    from forgecore_jobs.job import Finished
    from forgecore_jobs.limits import Limit

    suspects = put(shop, "fair", 3, 0, kills=2)
    plain = put(shop, "fair", 2, 0)
    store = Store(shop.url, name="test")
    worker = store.register(Entry(limits={}, kinds=["span"], timeouts={}))
    claimer = Claimer(["span"], 25, {"fair": Limit(round_robin=True)})

    first = claimer.claim(store, worker, {"fair": 10})
    assert [claim.id for claim in first if claim.id in suspects] == suspects[:1]
    assert {claim.id for claim in first} <= {suspects[0], *plain}
    second = claimer.claim(store, worker, {"fair": 10})
    assert not {claim.id for claim in second} & set(suspects)
    store.settle([Settled(claim=claim, outcome=Finished(state="completed")) for claim in first])
    store.held.discard(first)
    time.sleep(0.3)
    third = claimer.claim(store, worker, {"fair": 10})
    assert [claim.id for claim in third] == suspects[1:2]
    store.close()
