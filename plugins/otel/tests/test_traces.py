"""One trace from the action to the worker, across processes."""

import json
import uuid

import pytest

SCHEMA = """
[resource]
name = "Product"
tenant_scoped = true
[fields]
title = { type = "string" }
[[hooks.after_create]]
kind = "notify_new_product"
"""
SPANS = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

class Lines(SpanExporter):
    def export(self, spans):
        with open("spans", "a") as file:
            for span in spans:
                file.write(json.dumps({
                    "name": span.name, "kind": span.kind.name,
                    "trace": span.context.trace_id, "id": span.context.span_id,
                    "parent": span.parent.span_id if span.parent else None,
                    "links": [link.context.span_id for link in span.links],
                    "attributes": dict(span.attributes), "error": span.status.is_ok is False,
                }) + "\\n")

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Lines()))
trace.set_tracer_provider(provider)
"""
WORKER = """
import shop.spans
from forgecore_jobs import Job, worker
from shop.gen.actions.product import NotifyNewProductArgs, ProductActions

@worker(NotifyNewProductArgs)
def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:
    ProductActions(job.tx).get(args.resource_id)
"""
CREATE = """
import asyncio, uuid
import shop.spans
from forgecore.runtime import acting, connect, connect_async
from forgecore_jobs import enqueue
from opentelemetry import trace
from shop.gen.actions.product import *
from shop.gen.models.product import ProductCreate
tenant = uuid.UUID("{tenant}")

async def both():
    async with connect_async() as db:
        return await AsyncProductActions(db).create(ProductCreate(title="x"))

with acting(tenant=tenant), trace.get_tracer("t").start_as_current_span("request") as span:
    with connect() as db:
        made = ProductActions(db).create(ProductCreate(title="x"))
        enqueue(db, NotifyNewProductArgs(resource_id=made.id, tenant_id=tenant))
    asyncio.run(both())
"""


@pytest.fixture
def shop(project, server):
    name = f"otel_{uuid.uuid4().hex[:12]}"
    project.url = server.database(name)
    project.write("schema/product.toml", SCHEMA)
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs", "otel"]\n')
    project.ok("build")
    project.ok("migrate", "up")
    project.ok("migrate", "diff")
    project.ok("migrate", "up")
    project.write("shop/spans.py", SPANS)
    project.write("shop/resources/product/jobs.py", WORKER)
    yield project
    server.drop(name)


def spans(shop):
    return [json.loads(line) for line in shop.read("spans").splitlines()]


@pytest.mark.parametrize("command", ["forgecore", "dramatiq"])
def test_the_worker_goes_on_with_the_trace_of_the_action(shop, command):
    import sys
    import time
    from pathlib import Path

    import psycopg

    done = shop.python(CREATE.replace("{tenant}", str(uuid.uuid4())))
    assert done.returncode == 0, done.stderr

    arguments = {
        "forgecore": (sys.executable, "-m", "forgecore", "jobs", "work"),
        "dramatiq": (
            str(Path(sys.executable).with_name("dramatiq")),
            "shop.gen.jobs.dramatiq",
            "-p",
            "1",
        ),
    }[command]
    worker = shop.start(*arguments)
    with psycopg.connect(shop.url, autocommit=True) as conn:
        deadline = time.monotonic() + 20
        while conn.execute("SELECT FROM forge.jobs").rowcount and time.monotonic() < deadline:
            time.sleep(0.1)
    worker.terminate()
    worker.wait(20)

    found = spans(shop)
    (request,) = [span for span in found if span["name"] == "request"]
    assert {span["trace"] for span in found} == {request["trace"]}
    creates = {span["id"] for span in found if span["name"] == "product.create"}
    runs = [span for span in found if span["name"] == "notify_new_product"]
    assert len(creates) == 2
    assert {span["parent"] for span in runs} == {*creates, request["id"]}
    assert all(span["links"] == [span["parent"]] and span["kind"] == "CONSUMER" for span in runs)
    gets = [span for span in found if span["name"] == "product.get"]
    assert {span["parent"] for span in gets} == {span["id"] for span in runs}


def test_without_the_plugin_there_is_no_trace_of_it(shop):
    shop.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs"]\n')
    shop.ok("build")
    shop.write("shop/resources/product/jobs.py", "")

    done = shop.python(
        "import sys, shop.gen.actions.product, shop.gen.jobs.wiring\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'forgecore_otel'))])"
    )

    assert done.stdout == "[]\n", done.stderr
    text = shop.read("shop/gen/actions/product.py")
    assert "metadata" not in text
    assert "traced" not in text


def test_without_jobs_actions_are_traced_all_the_same(shop):
    shop.write("forge.toml", '[project]\nname = "shop"\nplugins = ["otel"]\n')
    shop.write("schema/product.toml", SCHEMA.partition("[[hooks")[0])

    shop.ok("build")

    assert '@traced("product.create")' in shop.read("shop/gen/actions/product.py")
    assert not (shop.folder / "shop/gen/jobs").exists()
