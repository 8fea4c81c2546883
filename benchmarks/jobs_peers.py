"""One measurement of one system in a process of its own; prints a line of JSON.

    python jobs_peers.py drain PEER JOBS SLOTS      until all are acknowledged
    python jobs_peers.py latency PEER JOBS RATE     from the enqueuer's commit to the job's start
    python jobs_peers.py bulk PEER JOBS             in one call

BENCH_PG is the server's address with `{db}` for the database; BENCH_PROJECT a built project
of forgecore. Every peer is set up as its documentation says, with batches where it has them.
"""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

logging.disable(logging.CRITICAL)
ARGS = {
    "resource_id": "0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e5f",
    "tenant_id": "0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e60",
}
TICKS = os.sysconf("SC_CLK_TCK")
MODE, PEER, JOBS = sys.argv[1], sys.argv[2], int(sys.argv[3])
EXTRA = int(sys.argv[4]) if len(sys.argv) > 4 else 0


def address(database: str) -> str:
    return os.environ["BENCH_PG"].replace("{db}", database)


def fresh(template: str | None = None) -> str:
    name = f"bench_{PEER.replace('-', '_')}"
    with psycopg.connect(address("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        conn.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return address(name)


def prepare(url: str, statement: str | None = None, params: tuple[Any, ...] = ()) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        if statement:
            conn.execute(statement, params)
        conn.execute("VACUUM ANALYZE")


class Meter:
    """Time, CPU of this process and of the server, WAL."""

    def __init__(self) -> None:
        self.conn = psycopg.connect(address("postgres"), autocommit=True)
        stat = Path(f"/proc/{self.conn.info.backend_pid}/stat").read_text()
        self.postmaster = int(stat.rsplit(") ", 1)[1].split()[1])

    def _server(self) -> float:
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parts = path.read_text().rsplit(") ", 1)[1].split()
                if int(path.parent.name) == self.postmaster:
                    total += sum(map(int, parts[11:15]))
                elif int(parts[1]) == self.postmaster:
                    total += int(parts[11]) + int(parts[12])
        return total / TICKS

    def _wal(self) -> float:
        text = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        return float(self.conn.execute(text).fetchone()[0])

    def start(self) -> None:
        self.wal, self.server = self._wal(), self._server()
        self.cpu, self.time = time.process_time(), time.perf_counter()

    def stop(self, **more: Any) -> None:
        took = time.perf_counter() - self.time
        told = {
            "jobs_s": round(JOBS / took),
            "client_us": round((time.process_time() - self.cpu) / JOBS * 1e6, 1),
            "server_us": round((self._server() - self.server) / JOBS * 1e6, 1),
            "wal_b": round((self._wal() - self.wal) / JOBS),
            **more,
        }
        done(told)


def done(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)
    os._exit(0)


meter = Meter()
seen = 0
first = threading.Event()
lock = threading.Lock()
starts: dict[int, float] = {}


def run(number: object = None) -> None:
    """What every job does: nothing but to be counted."""
    global seen  # noqa: PLW0603 -- what every peer's job counts with
    if MODE == "latency":
        starts[int(str(number))] = time.time()
        return
    with lock:
        if seen == 0 and not first.is_set():
            first.set()
            meter.start()
        seen += 1


def until_empty(url: str, query: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        while conn.execute(query).fetchone()[0]:
            time.sleep(0.01)
    meter.stop()


def watch(url: str, query: str) -> None:
    """End the process when the peer's own table says that all is done."""

    def look() -> None:
        first.wait(60)
        until_empty(url, query)

    threading.Thread(target=look, daemon=True).start()


def produce(push: Callable[[int], None], queue: Any) -> None:
    sent: list[tuple[int, float]] = []
    due = time.time() + 0.5
    for number in range(JOBS):
        time.sleep(max(0, due - time.time()))
        push(number)
        sent.append((number, time.time()))
        due += 1 / EXTRA
    queue.put(sent)


def late(producer: Callable[[Any], None], queue: Any) -> None:
    time.sleep(3)
    producer(queue)


def follow(producer: Callable[[Any], None]) -> None:
    """Run the enqueuing process; report when every job has started."""

    # Forked before there are threads; it waits until the worker listens.
    queue: Any = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(target=late, args=(producer, queue))
    child.start()

    def wait() -> None:
        sent = queue.get()
        end = time.time() + 10
        while len(starts) < JOBS and time.time() < end:
            time.sleep(0.05)
        waits = sorted((starts[n] - at) * 1e3 for n, at in sent if n in starts)
        done(
            {
                "p50_ms": round(waits[len(waits) // 2], 2),
                "p99_ms": round(waits[int(len(waits) * 0.99) - 1], 2),
                "lost": JOBS - len(waits),
            }
        )

    threading.Thread(target=wait, daemon=True).start()


# --- forgecore -----------------------------------------------------------------------------


INSERTS = {
    "forgecore-unique": """
        WITH given AS (
            SELECT %s::text AS kind, %s::jsonb || jsonb_build_object('resource_id', md5(n::text)::uuid)
                AS args, %s::uuid AS tenant_id
            FROM generate_series(1, %s) AS n
        )
        INSERT INTO forge.jobs (id, kind, args, tenant_id)
        SELECT key.job_id, kind, args, tenant_id
        FROM given, forge.jobs_unique(
            kind => given.kind, args => given.args, queue => 'default', tenant_id => given.tenant_id
        ) AS key""",
    "forgecore-tenants": """
        INSERT INTO forge.jobs (kind, args, tenant_id)
        SELECT %s, given.args || jsonb_build_object('tenant_id', tenant), tenant
        FROM (SELECT %s::jsonb AS args, %s::uuid AS unused) AS given,
            generate_series(1, %s) AS n, LATERAL (SELECT md5((n %% 100)::text)::uuid AS tenant) AS of""",
    "forgecore-sequence": """
        INSERT INTO forge.jobs (id, kind, args, tenant_id, waits)
        SELECT place.id, given.kind, given.args, given.tenant_id, place.waits
        FROM (SELECT %s::text AS kind, %s::jsonb AS args, %s::uuid AS tenant_id) AS given,
            generate_series(1, %s) AS n, forge.jobs_place(sequence => 's' || n %% 1000) AS place""",
}


def forgecore() -> None:
    kind = {"forgecore-async": "async_noop", "forgecore-tx": "tx_noop"}.get(PEER, "sync_noop")
    url = fresh("bench_template")
    os.environ |= {
        "FORGE_PROJECT_DIR": os.environ["BENCH_PROJECT"],
        "FORGE_DATABASE_URL": url,
        "FORGE_JOBS_QUEUES": f"default={EXTRA if MODE == 'drain' else 10}",
    }
    if PEER == "forgecore-limit":
        os.environ["FORGE_JOBS_GLOBAL_LIMITS"] = f"default={EXTRA}"
    if PEER == "forgecore-tenants":
        os.environ["FORGE_JOBS_ROUND_ROBIN"] = "default"
    sys.path.insert(0, os.environ["BENCH_PROJECT"])
    import bench_hook  # type: ignore[import-not-found]

    bench_hook.run = run
    insert = "INSERT INTO forge.jobs (kind, args, tenant_id) SELECT %s, %s, %s FROM generate_series(1, %s)"
    if MODE == "bulk":
        from forgecore_jobs import enqueue_many

        from forgecore.runtime import connect

        module = __import__("shop.gen.actions.product", fromlist=["SyncNoopArgs"])
        from uuid import UUID

        one = module.SyncNoopArgs(UUID(ARGS["resource_id"]), UUID(ARGS["tenant_id"]))
        with connect() as db:
            enqueue_many(db, [one] * 10)
            meter.start()
            enqueue_many(db, [one] * JOBS)
            meter.stop()
    if MODE == "drain":
        prepare(url, INSERTS.get(PEER, insert), (kind, json.dumps(ARGS), ARGS["tenant_id"], JOBS))
        watch(url, "SELECT count(*) FROM forge.jobs")
    from forgecore_jobs.engine.logs import configure_logs
    from forgecore_jobs.engine.run import Engine

    logging.disable(logging.NOTSET)
    configure_logs()
    # As `jobs work` sets it.
    sys.setswitchinterval(0.0005)
    engine = Engine("shop")
    if MODE == "latency":

        def producer(queue: Any) -> None:
            conn = psycopg.connect(url, autocommit=True, prepare_threshold=0)
            text = (
                "INSERT INTO forge.jobs (kind, args, tenant_id, metadata) VALUES (%s, %s, %s, %s)"
            )
            body = json.dumps(ARGS)
            produce(
                lambda n: (
                    conn.execute(text, (kind, body, ARGS["tenant_id"], f'{{"n": "{n}"}}')) and None
                ),
                queue,
            )

        follow(producer)
    engine.start()
    engine.work(threading.Event())


# --- peers ---------------------------------------------------------------------------------


def pgqueuer() -> None:
    import asyncpg
    import uvloop
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver, SyncPsycopgDriver
    from pgqueuer.domain.types import QueueExecutionMode
    from pgqueuer.queries import Queries, SyncQueries

    url = fresh()
    body = json.dumps(ARGS).encode()

    async def main() -> None:
        queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
        await queries.install()
        if MODE == "bulk":
            await queries.enqueue(["noop"] * 10, [body] * 10, [0] * 10)
            meter.start()
            await queries.enqueue(["noop"] * JOBS, [body] * JOBS, [0] * JOBS)
            meter.stop()
        worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        @worker.entrypoint("noop")
        async def noop(job: Any) -> None:
            run(job.payload.decode() if MODE == "latency" else None)

        if MODE == "drain":
            for start in range(0, JOBS, 1000):
                count = min(1000, JOBS - start)
                await queries.enqueue(["noop"] * count, [body] * count, [0] * count)
            prepare(url)
            more = {} if PEER == "pgqueuer-default" else {"batch_size": EXTRA}
            await worker.qm.run(mode=QueueExecutionMode.drain, **more)
            until_empty(url, "SELECT count(*) FROM pgqueuer")

        def producer(queue: Any) -> None:
            conn = psycopg.connect(url, autocommit=True)
            sync = SyncQueries(SyncPsycopgDriver(conn))
            produce(lambda n: sync.enqueue("noop", str(n).encode()) and None, queue)

        follow(producer)
        await worker.qm.run(batch_size=10)

    uvloop.run(main())


def procrastinate() -> None:
    import procrastinate as library

    url = fresh()
    app = library.App(connector=library.PsycopgConnector(conninfo=url, min_size=4, max_size=20))

    @app.task(queue="default", name="noop")
    async def noop(n: int = 0, **_rest: Any) -> None:
        run(n)

    async def main() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            if MODE == "bulk":
                await noop.batch_defer_async(*[ARGS] * 10)
                meter.start()
                await noop.batch_defer_async(*[ARGS] * JOBS)
                meter.stop()
            if MODE == "drain":
                for start in range(0, JOBS, 1000):
                    await noop.batch_defer_async(*[ARGS] * min(1000, JOBS - start))
                prepare(url)
                watch(
                    url, "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
                )
            else:

                def producer(queue: Any) -> None:
                    other = library.App(connector=library.SyncPsycopgConnector(conninfo=url))
                    other.open()
                    task = other.configure_task("noop", queue="default", allow_unknown=True)
                    produce(lambda n: task.defer(n=n) and None, queue)

                follow(producer)
            await app.run_worker_async(
                concurrency=EXTRA if MODE == "drain" else 10, install_signal_handlers=False
            )

    asyncio.run(main())


def oban() -> None:
    import importlib.resources

    import uvloop
    from oban import Oban, worker
    from oban.schema import install
    from psycopg.types.json import Jsonb
    from psycopg_pool import AsyncConnectionPool

    url = fresh()

    @worker(queue="default")
    class Noop:
        async def process(self, job: Any) -> None:
            run(job.args.get("n"))

    async def main() -> None:
        pool = AsyncConnectionPool(url, min_size=2, max_size=10, open=False)
        await pool.open()
        await install(pool)
        name = f"{Noop.__module__}.{Noop.__qualname__}"
        slots = EXTRA if MODE == "drain" else 10
        client = Oban(pool=pool, queues={} if MODE == "bulk" else {"default": slots})
        if MODE == "bulk":
            await client.enqueue_many([Noop.new(dict(ARGS)) for _ in range(10)])
            meter.start()
            await client.enqueue_many([Noop.new(dict(ARGS)) for _ in range(JOBS)])
            meter.stop()
        if MODE == "drain":
            text = "INSERT INTO oban_jobs (worker, args) SELECT %s, %s::jsonb FROM generate_series(1, %s)"
            prepare(url, text, (name, json.dumps(ARGS), JOBS))
            watch(url, "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing')")
        await client.start()
        if MODE == "latency":
            text = (importlib.resources.files("oban.queries") / "insert_job.sql").read_text()
            text = text.replace("oban_insert", "public.oban_insert")
            base = {"inserted_at": None, "max_attempts": 20, "priority": 0, "queue": "default",
                    "scheduled_at": None, "state": "available", "tags": [], "worker": name,
                    "meta": Jsonb({})}  # fmt: skip

            def producer(queue: Any) -> None:
                conn = psycopg.connect(url, autocommit=True, prepare_threshold=0)
                produce(
                    lambda n: conn.execute(text, {**base, "args": Jsonb({"n": n})}) and None, queue
                )

            follow(producer)
        await asyncio.sleep(600)

    uvloop.run(main())


def chancy() -> None:
    from chancy import Chancy, Job, Queue, Worker

    url = fresh()
    sys.modules["jobs_peers"] = sys.modules["__main__"]

    async def main() -> None:
        async with Chancy(url, log=logging.getLogger("x")) as client:
            await client.migrate()
            slots = EXTRA if MODE == "drain" else 10
            await client.declare(
                Queue(
                    "q",
                    concurrency=slots,
                    executor=Chancy.Executor.Async,
                    eager_polling=True,
                    polling_interval=1,
                )
            )
            if MODE == "bulk":
                meter.start()
                async for _ in client.push_many(
                    [Job(func="a.b", kwargs=dict(ARGS)) for _ in range(JOBS)]
                ):
                    pass
                meter.stop()
            if MODE == "drain":
                jobs = [
                    Job(func="jobs_peers.chancy_job", queue="q", kwargs={"n": n})
                    for n in range(JOBS)
                ]
                async for _ in client.push_many(jobs):
                    pass
                prepare(url)
                watch(url, "SELECT count(*) FROM chancy_jobs WHERE state IN ('pending', 'running')")
            else:

                def producer(queue: Any) -> None:
                    other = Chancy(url, log=logging.getLogger("x"))
                    produce(
                        lambda n: (
                            other.sync_push(
                                Job(func="jobs_peers.chancy_job", queue="q", kwargs={"n": n})
                            )
                            and None
                        ),
                        queue,
                    )

                follow(producer)
            async with Worker(client, register_signal_handlers=False):
                await asyncio.sleep(600)

    asyncio.run(main())


async def chancy_job(n: int = 0) -> None:
    run(n)


def awa() -> None:
    import dataclasses

    from awa import AsyncClient, Client

    url = fresh()
    kind = dataclasses.make_dataclass("Noop", ["resource_id", "tenant_id"])
    kind.__module__ = __name__

    def producer(queue: Any) -> None:
        other = Client(url)
        produce(lambda n: other.insert(kind(str(n), "")) and None, queue)

    if MODE == "latency":
        follow(producer)

    async def main() -> None:
        client = AsyncClient(url)
        await client.migrate()
        await client.install_queue_storage()
        jobs = [kind(**ARGS) for _ in range(JOBS)]
        if MODE == "bulk":
            await client.enqueue_many_copy(jobs[:10])
            meter.start()
            await client.enqueue_many_copy(jobs)
            meter.stop()

        @client.task(kind, queue="default")
        async def noop(job: Any) -> None:
            run(job.args.resource_id)

        if MODE == "drain":
            await client.enqueue_many_copy(jobs)
            prepare(url)
            await client.start(
                [{"name": "default", "max_workers": EXTRA, "claimers": 2, "claim_batch_size": 512}]
            )
            while True:
                # Its statistics cost the server much: they are asked for when all have run.
                if seen >= JOBS:
                    stats = [one for one in await client.queue_stats() if one.queue == "default"]
                    if not sum(one.available + one.running for one in stats):
                        meter.stop()
                await asyncio.sleep(0.02)

        await client.start([("default", 10)])
        await asyncio.sleep(600)

    asyncio.run(main())


def _dramatiq(
    make: Callable[[], Any],
    left: Callable[[Any], object],
    fill: Callable[[Any, list[Any]], None] | None = None,
) -> None:
    import dramatiq
    from dramatiq.worker import Worker

    broker = make()
    broker.emit_after("process_boot")

    @dramatiq.actor(broker=broker, actor_name="noop", queue_name="default")
    def noop(n: int = 0, **_rest: Any) -> None:
        run(n)

    def send(count: int) -> None:
        messages = [noop.message(**ARGS) for _ in range(count)]
        if fill:
            fill(broker, messages)
            return
        for message in messages:
            broker.enqueue(message)

    with contextlib.suppress(NotImplementedError):
        broker.flush_all()
    if MODE == "bulk":
        meter.start()
        send(JOBS)
        meter.stop()
    if MODE == "drain":
        send(JOBS)
    else:

        def producer(queue: Any) -> None:
            # Connections do not outlive a fork.
            other = make()
            other.declare_queue("default")
            produce(lambda n: other.enqueue(noop.message(n=n)) and None, queue)

        follow(producer)
    Worker(broker, worker_timeout=100, worker_threads=8).start()
    if MODE == "drain":
        while seen < JOBS or left(broker):
            time.sleep(0.01)
        meter.stop()
    time.sleep(600)


def dramatiq_memory() -> None:
    from dramatiq.brokers.stub import StubBroker

    _dramatiq(StubBroker, lambda _: False)


def dramatiq_redis() -> None:
    from dramatiq.brokers.redis import RedisBroker

    _dramatiq(
        lambda: RedisBroker(url=os.environ["BENCH_REDIS"]), lambda one: one.do_qsize("default")
    )


def dramatiq_rabbitmq() -> None:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    _dramatiq(
        lambda: RabbitmqBroker(url=os.environ["BENCH_AMQP"]),
        lambda one: one.get_queue_message_counts("default")[0],
    )


def dramatiq_postgres() -> None:
    from dramatiq_postgres import PostgresBroker, generate_init_sql
    from psycopg.types.json import Jsonb
    from psycopg_pool import ConnectionPool

    url = fresh()
    prepare(url, generate_init_sql())
    # Its own reading of an address loses the socket's folder.
    _dramatiq(
        lambda: PostgresBroker(
            pool=ConnectionPool(url, min_size=1, max_size=16, open=True), results=False
        ),
        counter(url, "SELECT count(*) FROM dramatiq.queue WHERE state IN ('queued', 'consumed')"),
        # It has no call for many.
        lambda broker, messages: (
            many(
                broker,
                "queue_name, message_id, state, message, available_at",
                "queued",
                messages,
                Jsonb,
            )
            if MODE == "drain"
            else [broker.enqueue(message) for message in messages] and None
        ),
    )


def many(broker: Any, columns: str, state: str, messages: list[Any], jsonb: Any) -> None:
    with broker.pool.connection() as conn, conn.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO dramatiq.queue ({columns}) VALUES ('default', %s, %s, %s, now())",
            [(one.message_id, state, jsonb(one.asdict())) for one in messages],
        )


def iddqueue() -> None:
    from iddqueue import PostgresBroker, generate_init_sql
    from psycopg_pool import ConnectionPool

    url = fresh()
    prepare(url, generate_init_sql())

    def fill(broker: Any, messages: list[Any]) -> None:
        for start in range(0, len(messages), 1000):
            broker.enqueue_many(messages[start : start + 1000])

    _dramatiq(
        lambda: PostgresBroker(
            pool=ConnectionPool(url, min_size=1, max_size=16, open=True), results=False
        ),
        counter(url, "SELECT count(*) FROM dramatiq.queue WHERE state IN ('queued', 'consumed')"),
        fill,
    )


def counter(url: str, query: str) -> Callable[[Any], int]:
    conn = psycopg.connect(url, autocommit=True)
    return lambda _: int(conn.execute(query).fetchone()[0])


if __name__ == "__main__":
    name = PEER.replace("-", "_")
    system = name.removesuffix("_default")
    forgecore() if name.startswith("forgecore") else globals()[system]()
