"""`forgecore jobs work`: real processes on a real server."""

import signal
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
from forgecore_jobs.engine.store import Entry

ENTRY = Entry(limits={"notifications": 9}, kinds=["notify_new_product"], timeouts={})


BOTH = """
@worker(NotifyNewProductArgs)
def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:
    {notify}

@worker(ReindexProductArgs)
def reindex_product(args: ReindexProductArgs, job: Job) -> None:
    {reindex}
"""


def both(notify="pass", reindex="pass"):
    return BOTH.replace("{notify}", notify).replace("{reindex}", reindex)


def test_fresh_stubs_complete_every_job(shop):
    ids = [shop.enqueue(), shop.enqueue("reindex_product")]

    shop.work()

    shop.drained()
    assert [shop.state(job)[0] for job in ids] == ["completed", "completed"]
    assert "tenant_id" in shop.lines("product.notify_new_product")[0]


def test_a_queue_never_runs_more_than_its_limit_and_delays_no_other(shop):
    shop.jobs(
        both(
            'note("n start", time.monotonic()); time.sleep(1); note("n end", time.monotonic())',
            'note("d start", time.monotonic()); time.sleep(1); note("d end", time.monotonic())',
        )
    )
    for _ in range(6):
        shop.enqueue()
        shop.enqueue("reindex_product")

    shop.work()
    shop.drained()

    events = sorted((float(at), name, edge) for name, edge, at in map(str.split, shop.notes()))
    running, most = {"n": 0, "d": 0}, {"n": 0, "d": 0}
    for _, name, edge in events:
        running[name] += 1 if edge == "start" else -1
        most[name] = max(most[name], running[name])
    assert most == {"n": 2, "d": 6}


def test_the_environments_limits_win(shop):
    shop.jobs(both('note("start"); time.sleep(0.5); note("end")'))
    for _ in range(3):
        shop.enqueue()

    shop.work(FORGE_JOBS_QUEUES="notifications=1")
    shop.drained()

    assert shop.notes() == ["start", "end"] * 3


def test_the_tenant_is_restored_for_each_job_and_unset_after_it(shop):
    shop.jobs(
        """
@worker(NotifyNewProductArgs)
def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:
    titles = [p.title for p in ProductActions(job.tx).list()]
    note("sync", current_tenant(), job.tenant_id == args.tenant_id, titles)
    if job.attempt == 1 and "crash" in titles:
        raise ValueError

@worker(ReindexProductArgs)
async def reindex_product(args: ReindexProductArgs, job: AsyncJob) -> None:
    await asyncio.sleep(0.05)
    note("async", current_tenant(), [p.title for p in await AsyncProductActions(job.tx).list()])
"""
    )
    other = uuid.uuid4()
    for tenant, title in ((shop.tenant, "mine"), (other, "theirs")):
        shop.sql.execute(
            "INSERT INTO products (id, tenant_id, title) VALUES (%s, %s, %s)",
            (uuid.uuid4(), tenant, title),
        )
        shop.tenant = tenant
        shop.enqueue()
        shop.enqueue("reindex_product")
    first, second = uuid.UUID(int=0), other
    _ = first, second

    shop.work()
    shop.drained()

    seen = sorted(line.replace(str(other), "B") for line in shop.notes())
    assert [line for line in seen if " B " in line] == [
        "async B ['theirs']",
        "sync B True ['theirs']",
    ]
    assert all("['mine']" in line for line in seen if " B " not in line)


def test_a_failed_attempt_is_logged_kept_and_tried_again_after_the_backoff(shop):
    shop.jobs(both(reindex='note(time.time()); raise ValueError("boom")'))
    job = shop.enqueue("reindex_product", max_attempts=2, backoff="constant:2s")

    shop.work()
    shop.until(lambda: shop.state(job)[0] == "retryable")
    assert shop.state(job) == ("retryable", 1, 1, ["ValueError"])
    shop.drained()

    assert shop.state(job) == ("discarded", 2, 2, ["ValueError", "ValueError"])
    first, second = map(float, shop.notes())
    assert second - first > 1.7
    failed = shop.lines("job.failed")
    assert [(line["level"], line["attempt"]) for line in failed] == [("warning", 1), ("warning", 2)]
    assert {"kind", "job_id", "attempt", "max_attempts", "error"} <= failed[0].keys()
    (discarded,) = shop.lines("job.discarded")
    assert discarded["level"] == "error"
    assert "Traceback" in discarded["exception"]
    errors = shop.sql.execute("SELECT errors FROM forge.jobs_all WHERE id = %s", (job,)).fetchone()
    assert [e["attempt"] for e in errors[0]] == [1, 2]
    assert {"attempt", "at", "error", "message", "traceback"} == errors[0][0].keys()
    assert "boom" in errors[0][0]["traceback"]


@pytest.mark.parametrize(
    "what",
    ["raise SystemExit(3)", "raise MemoryError", "raise KeyboardInterrupt", "raise GeneratorExit"],
)
def test_an_unexpected_exception_never_takes_the_worker_down(shop, what):
    shop.jobs(both(notify=f"if job.attempt == 1: {what}"))
    job = shop.enqueue(backoff="constant:1s")

    process = shop.work()
    shop.drained()

    assert shop.state(job)[:3] == ("completed", 2, 1)
    assert process.poll() is None
    assert "Traceback" in shop.lines("job.failed")[0]["exception"]


def test_an_async_worker_fails_like_any_other(shop):
    shop.jobs(
        """
@worker(NotifyNewProductArgs)
async def notify_new_product(args: NotifyNewProductArgs, job: AsyncJob) -> None:
    await job.tx.execute("CREATE TABLE left_over ()")
    if job.attempt == 1:
        raise asyncio.CancelledError
    if job.attempt == 2:
        raise SystemExit
"""
    )
    job = shop.enqueue(backoff="constant:1s")

    shop.work()
    shop.drained()

    assert shop.state(job) == ("completed", 3, 2, ["CancelledError", "SystemExit"])


def test_what_a_worker_writes_commits_with_the_jobs_completion(shop):
    shop.sql.execute("CREATE TABLE effects (attempt int)")
    shop.jobs(
        both(
            'job.tx.execute("INSERT INTO effects VALUES (%s)", (job.attempt,))\n'
            "    if job.attempt == 1: raise ValueError"
        )
    )
    job = shop.enqueue(backoff="constant:1s")

    shop.work()
    shop.drained()

    assert shop.sql.execute("SELECT attempt FROM effects").fetchall() == [(2,)]
    xmins = shop.sql.execute(
        "SELECT xmin::text FROM effects UNION SELECT xmin::text FROM forge.jobs_finished WHERE id = %s",
        (job,),
    ).fetchall()
    assert len(xmins) == 1


def test_snooze_cancel_and_discard(shop):
    shop.jobs(
        both(
            "if job.attempt == 1: raise Snooze(timedelta(seconds=1))",
            'raise (Cancel if args.tenant_id.int % 2 else Discard)("no more")',
        )
    )
    snoozed = shop.enqueue()
    shop.tenant = uuid.UUID(int=1)
    cancelled = shop.enqueue("reindex_product")
    shop.tenant = uuid.UUID(int=2)
    discarded = shop.enqueue("reindex_product")

    shop.work()
    shop.drained()

    assert shop.state(snoozed) == ("completed", 2, 0, [])
    assert shop.state(cancelled) == ("cancelled", 1, 0, [])
    assert shop.state(discarded) == ("discarded", 1, 1, ["Discard"])


def test_arguments_that_do_not_fit_discard_and_name_the_field(shop):
    job = shop.enqueue(args='{"resource_id": "x", "extra": 1}')

    shop.work()
    shop.drained()

    assert shop.state(job)[0] == "discarded"
    (error,) = shop.lines("job.discarded")
    for field in ("resource_id", "tenant_id", "extra"):
        assert field in error["error"]


def test_an_unknown_kind_waits_and_is_named_once(shop):
    job = shop.enqueue("somebody_elses")
    shop.enqueue()

    shop.work()
    shop.until(lambda: shop.lines("kind.unknown"), 10)
    time.sleep(3)

    assert shop.state(job) == ("available", 0, 0, [])
    assert [line["kind"] for line in shop.lines("kind.unknown")] == ["somebody_elses"]


def test_jobs_of_a_killed_worker_run_again(shop):
    shop.jobs(both("if job.attempt == 1: time.sleep(60)"))
    job = shop.enqueue()
    victim = shop.work()
    shop.until(lambda: shop.state(job)[0] == "running")
    survivor = shop.work()
    shop.until(lambda: shop.log().count('"worker.started"') == 2)

    killed = time.monotonic()
    victim.kill()
    shop.drained(20)

    assert time.monotonic() - killed < 15
    assert shop.state(job)[:3] == ("completed", 2, 0)
    assert survivor.poll() is None


def test_a_living_worker_keeps_a_job_longer_than_the_lease(shop):
    shop.jobs(both('note("run"); time.sleep(13)'))
    job = shop.enqueue()
    shop.work()
    shop.work()

    shop.drained(30)

    assert shop.state(job)[:2] == ("completed", 1)
    assert shop.notes() == ["run"]


def test_a_stopped_worker_that_lost_its_lease_finishes_nothing(shop):
    shop.sql.execute("CREATE TABLE effects (attempt int)")
    shop.jobs(
        both(
            "note(job.attempt)\n    time.sleep(3)\n"
            '    job.tx.execute("INSERT INTO effects VALUES (%s)", (job.attempt,))'
        )
    )
    job = shop.enqueue()
    sleeper = shop.work()
    shop.until(lambda: shop.notes() == ["1"])
    sleeper.send_signal(signal.SIGSTOP)
    shop.work()
    shop.drained(30)
    sleeper.send_signal(signal.SIGCONT)
    shop.until(lambda: shop.lines("job.lease_lost"), 15)

    assert shop.sql.execute("SELECT attempt FROM effects").fetchall() == [(2,)]
    assert shop.state(job)[:2] == ("completed", 2)


def test_a_job_that_kills_its_workers_is_given_up_and_its_neighbours_are_not(shop):
    shop.jobs("""
def told(args, job, error):
    note(f"{error} {current_tenant()}")

@worker(NotifyNewProductArgs, on_discard=told)
def notify_new_product(args, job):
    time.sleep(0.5)
    os.kill(os.getpid(), 9)

@worker(ReindexProductArgs)
def reindex_product(args, job):
    time.sleep(1)
""")
    before = shop.enqueue("reindex_product")
    killer = shop.enqueue()
    behind = [shop.enqueue("reindex_product") for _ in range(2)]

    for _ in range(3):
        assert shop.work().wait(30) == -signal.SIGKILL
        shop.sql.execute("UPDATE forge.job_workers SET beat_at = '-infinity'")
    shop.work()
    shop.drained(30)

    assert shop.state(killer)[::3] == ("discarded", ["WorkerKilled"])
    assert shop.notes() == [f"killed its worker 3 times {shop.tenant}"]
    # The first two times all ran side by side, the third time each by itself.
    assert [shop.state(job)[0] for job in (before, *behind)] == ["completed"] * 3
    kills = "SELECT kills FROM forge.jobs_finished WHERE id <> %s ORDER BY id"
    assert shop.sql.execute(kills, (killer,)).fetchall() == [(2,)] * 3


def test_a_suspect_that_cannot_start_keeps_no_other_waiting(shop):
    shop.jobs(both())
    paused = shop.enqueue()
    other = shop.enqueue("reindex_product")
    shop.sql.execute("UPDATE forge.jobs SET kills = 2")
    shop.ok("jobs", "pause", "--queue", "notifications")
    shop.work()
    shop.until(lambda: shop.state(other)[0] == "completed")

    assert shop.state(paused)[:2] == ("available", 0)


def test_a_job_whose_callback_kills_its_workers_is_given_up_too(shop):
    job = shop.enqueue()
    for _ in range(4):
        shop.sql.execute(
            "INSERT INTO forge.job_workers (host, pid, beat_at) VALUES ('x', 1, '-infinity')"
        )
        shop.sql.execute(
            "UPDATE forge.jobs SET attempt = attempt + 1, worker_id = (SELECT max(id) FROM forge.job_workers)"
        )
        rescue(shop)

    assert shop.state(job) == ("discarded", 4, 0, ["WorkerKilled"])


def rescue(shop):
    from forgecore_jobs.engine.store import Store

    store = Store(shop.url, name="test")
    store.rescue()
    store.close()


def test_a_worker_survives_its_connections(shop):
    shop.jobs(both("time.sleep(0.2)"))
    shop.work()
    shop.until(lambda: shop.log().count('"worker.started"') == 1)
    for _ in range(3):
        for _ in range(5):
            shop.enqueue()
        time.sleep(0.3)
        shop.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    shop.drained(40)

    states = shop.sql.execute("SELECT state, count(*) FROM forge.jobs_all GROUP BY 1").fetchall()
    assert states == [("completed", 15)]


def test_sigterm_finishes_what_runs_and_gives_the_rest_back(shop):
    shop.jobs(both('note("start"); time.sleep(2)'))
    jobs = [shop.enqueue() for _ in range(4)]
    worker = shop.work()
    shop.until(lambda: len(shop.notes()) == 2)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0

    states = [shop.state(job)[0] for job in jobs]
    assert sorted(states) == ["available", "available", "completed", "completed"]
    assert shop.sql.execute("SELECT FROM forge.job_workers").rowcount == 0


def test_dramatiqs_own_command_line_runs_the_same_jobs(shop):
    shop.jobs(both('note("ran", current_tenant())', 'raise ValueError("x")'))
    done = shop.enqueue()
    failed = shop.enqueue("reindex_product", max_attempts=1)

    process = shop.start(
        str(Path(sys.executable).with_name("dramatiq")), "shop.gen.jobs.dramatiq", "-p", "1"
    )
    try:
        shop.drained()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)

    assert shop.state(done)[0] == "completed"
    assert shop.state(failed)[0] == "discarded"
    assert shop.notes() == [f"ran {shop.tenant}"]


def test_a_syntax_error_in_a_workers_module_is_named(shop):
    shop.write("shop/resources/product/jobs.py", "x = 1\ndef (:\n")

    done = shop.run("jobs", "work")

    assert done.returncode == 1
    assert "shop/resources/product/jobs.py:2" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_import_that_fails_is_named(shop):
    shop.write("shop/resources/product/jobs.py", "\n\nimport nowhere_to_be_found\n")

    done = shop.run("jobs", "work")

    assert done.returncode == 1
    assert "shop/resources/product/jobs.py:3" in done.stderr


def test_two_workers_of_one_kind_are_named_with_both_places(shop):
    shop.jobs(both() + "\n@worker(NotifyNewProductArgs)\ndef again(args, job): pass\n")

    done = shop.run("jobs", "work")

    assert done.returncode == 1
    assert done.stderr.count("resources/product/jobs.py:") == 2
    assert "notify_new_product" in done.stderr


def test_an_unmigrated_database_is_said_with_the_command(shop):
    shop.sql.execute("DROP SCHEMA forge CASCADE")

    done = shop.run("jobs", "work")

    assert done.returncode == 3
    assert "forgecore migrate up" in done.stderr
    assert "Traceback" not in done.stderr


def test_default_exists_without_a_section(shop):
    text = shop.read("forge.toml").partition("[jobs.queues]")[0]
    shop.write("forge.toml", text)
    job = shop.enqueue("reindex_product")

    shop.work()
    shop.drained()

    assert shop.state(job)[0] == "completed"
    shop.until(lambda: shop.lines("worker.started"))
    assert shop.lines("worker.started")[0]["queues"] == {"default": 100}


def test_max_attempts_of_the_environment_is_the_default(shop):
    shop.jobs(both("raise ValueError"))
    job = shop.enqueue()

    shop.work(FORGE_JOBS_MAX_ATTEMPTS="1")
    shop.drained()

    assert shop.state(job)[:3] == ("discarded", 1, 1)


def test_middlewares_that_the_row_replaces_are_refused(shop):
    import dramatiq.middleware
    from forgecore_jobs.engine.broker import PostgresBroker, RefusedMiddlewareError
    from forgecore_jobs.settings import JobsSettings

    for name in ("Retries", "TimeLimit", "ShutdownNotifications"):
        middleware = getattr(dramatiq.middleware, name)()
        with pytest.raises(RefusedMiddlewareError, match=name):
            PostgresBroker(JobsSettings(), [middleware])


@pytest.mark.parametrize(
    "what",
    [
        "raise Snooze(timedelta.max)",
        "raise Snooze(5)",
        "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()",
        "raise ValueError('a\\0b' + chr(0xd800))",
    ],
)
def test_whatever_a_worker_raises_its_job_is_settled(shop, what):
    shop.jobs(both(notify=what))
    job = shop.enqueue(backoff="bogus" if "Odd" not in what else None)

    shop.work()
    shop.until(lambda: shop.state(job)[0] in ("retryable", "scheduled"))

    assert shop.state(job)[1] == 1


def test_an_exit_in_a_task_of_an_async_worker_ends_no_other_job(shop):
    shop.jobs(
        """
@worker(NotifyNewProductArgs)
async def notify_new_product(args: NotifyNewProductArgs, job: AsyncJob) -> None:
    async def child():
        sys.exit(3)
    if job.attempt == 1:
        await asyncio.create_task(child())
"""
    )
    job = shop.enqueue(backoff="constant:1s")
    worker = shop.work()

    shop.drained()

    assert shop.state(job)[:3] == ("completed", 2, 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0


def test_a_jobs_transaction_may_begin_in_a_task_or_thread_and_ends_with_the_job(shop):
    shop.sql.execute("CREATE TABLE effects (what text)")
    shop.jobs(
        """
import threading
INSERT = "INSERT INTO effects VALUES (%s)"

@worker(NotifyNewProductArgs)
async def notify_new_product(args: NotifyNewProductArgs, job: AsyncJob) -> None:
    await asyncio.gather(*(job.tx.execute(INSERT, ("async",)) for _ in range(3)))
    await asyncio.wait_for(job.tx.execute(INSERT, ("waited",)), 5)

@worker(ReindexProductArgs)
def reindex_product(args: ReindexProductArgs, job: Job) -> None:
    thread = threading.Thread(target=job.tx.execute, args=(INSERT, ("thread",)))
    thread.start()
    thread.join()
    def later():
        time.sleep(1)
        try:
            job.tx.execute(INSERT, ("leaked",))
        except Exception as error:
            note(error)
    threading.Thread(target=later).start()
"""
    )
    jobs = [shop.enqueue(), shop.enqueue("reindex_product")]

    shop.work()
    shop.drained()
    shop.until(shop.notes)

    assert [shop.state(job)[:3] for job in jobs] == [("completed", 1, 0)] * 2
    found = shop.sql.execute("SELECT what FROM effects ORDER BY what").fetchall()
    assert found == [("async",)] * 3 + [("thread",), ("waited",)]
    assert shop.notes() == ["this transaction has ended"]


def test_waiting_for_a_connection_is_no_failure(shop):
    shop.jobs(both(reindex='job.tx.execute("SELECT 1"); time.sleep(0.5)'))
    jobs = [shop.enqueue("reindex_product") for _ in range(6)]

    shop.work(FORGE_DATABASE_POOL="1")
    shop.drained()

    assert [shop.state(job) for job in jobs] == [("completed", 1, 0, [])] * 6


def claimed(shop, store, worker):
    from forgecore_jobs.engine.floors import Claimer

    return Claimer(["notify_new_product"], 25).claim(store, worker, {"notifications": 9})


def test_a_process_that_leaves_gives_back_what_it_still_runs(shop):
    from forgecore_jobs.engine.store import Store

    job = shop.enqueue()
    store = Store(shop.url, name="test")
    worker = store.register(ENTRY)
    assert claimed(shop, store, worker)

    assert store.leave(worker) == [job]
    store.close()

    assert shop.state(job) == ("available", 1, 0, [])


def test_a_process_that_was_taken_for_dead_claims_nothing(shop):
    from forgecore_jobs.engine.store import Store

    job = shop.enqueue()
    store = Store(shop.url, name="test")
    worker = store.register(ENTRY)
    store.leave(worker)

    assert claimed(shop, store, worker) == []
    store.close()
    assert shop.state(job) == ("available", 0, 0, [])


def test_a_claim_whose_answer_was_lost_is_given_back(shop):
    import psycopg
    from forgecore_jobs.engine.store import Store

    job = shop.enqueue()
    store = Store(shop.url, name="test")
    worker = store.register(ENTRY)
    # The claim commits; its answer never comes.
    real = store._execute

    def cut(statement, params):
        real(statement, params)
        raise psycopg.OperationalError

    store._execute = cut
    with pytest.raises(psycopg.OperationalError):
        claimed(shop, store, worker)
    store._execute = real
    assert shop.state(job)[0] == "running"

    (again,) = claimed(shop, store, worker)
    store.close()

    assert (again.id, again.attempt) == (job, 2)


def test_outcomes_wait_while_the_server_takes_no_writes(shop):
    import psycopg

    shop.jobs(both('note("ran"); time.sleep(1)'))
    job = shop.enqueue()
    shop.work()
    shop.until(lambda: shop.notes() == ["ran"])
    name = psycopg.conninfo.conninfo_to_dict(shop.url)["dbname"]
    shop.sql.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    shop.sql.execute(cut)
    shop.until(lambda: shop.lines("acks.failed"))
    shop.sql.execute("SET transaction_read_only = off")
    shop.sql.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    shop.sql.execute(cut)

    shop.drained(30)

    assert shop.state(job)[0] == "completed"


def test_a_stopping_worker_claims_nothing_more(shop):
    shop.jobs(both("time.sleep(3)"))
    first = shop.enqueue()
    worker = shop.work()
    shop.until(lambda: shop.state(first)[0] == "running")
    worker.send_signal(signal.SIGTERM)
    shop.until(lambda: shop.lines("worker.stopping"))
    time.sleep(0.3)

    late = shop.enqueue("reindex_product")
    assert worker.wait(15) == 0

    assert shop.state(first)[0] == "completed"
    assert shop.state(late) == ("available", 0, 0, [])


def test_what_a_worker_binds_to_its_context_ends_with_its_job(shop):
    shop.jobs(
        both(
            "import structlog; structlog.contextvars.bind_contextvars(leaked=job.id); job.log.info('bound')"
        )
    )
    for _ in range(4):
        shop.enqueue()

    shop.work(FORGE_JOBS_QUEUES="notifications=1")
    shop.drained()

    assert [line["leaked"] == line["job_id"] for line in shop.lines("bound")] == [True] * 4


def test_rescue_waits_for_no_lock(shop):
    import psycopg
    from forgecore_jobs.engine.store import Store

    locked, free = shop.enqueue(), shop.enqueue()
    dead = shop.sql.execute(
        "INSERT INTO forge.job_workers (host, pid, beat_at) VALUES ('x', 1, '-infinity') RETURNING id"
    ).fetchone()[0]
    shop.sql.execute("UPDATE forge.jobs SET attempt = 1, worker_id = %s", (dead,))
    store = Store(shop.url, name="test")
    with psycopg.connect(shop.url) as other:
        other.execute("SELECT FROM forge.jobs WHERE id = %s FOR UPDATE", (locked,))

        assert store.rescue() == [(free, "rescued")]
    assert store.rescue() == [(locked, "rescued")]
    store.close()


def test_arguments_of_every_kind_come_back():
    import datetime as dt
    import enum
    from decimal import Decimal
    from typing import Any, ClassVar

    import attrs
    from forgecore_jobs import worker
    from forgecore_jobs.arguments import encode
    from forgecore_jobs.engine.decode import decode
    from forgecore_jobs.job import Claim

    class Color(enum.StrEnum):
        RED = "red"

    class Size(enum.IntEnum):
        BIG = 3

    @attrs.frozen
    class Inner:
        at: dt.datetime

    @attrs.frozen
    class EveryArgs:
        kind: ClassVar[str] = "every"
        color: Color
        size: Size | None
        money: Decimal
        inner: tuple[Inner, ...]
        wide: float | None
        either: int | str
        span: dt.timedelta
        names: dict[str, int]
        derived: int = attrs.field(init=False, default=7)

    args = EveryArgs(
        color=Color.RED, size=Size.BIG, money=Decimal("1.10"), wide=1, either="x",
        inner=(Inner(dt.datetime(2030, 1, 1, tzinfo=dt.UTC)),), span=dt.timedelta(minutes=1), names={"a": 1},
    )  # fmt: skip
    fields: dict[str, Any] = dict.fromkeys(
        ("tenant_id", "backoff", "timeout_s", "priority", "run_at")
    )
    claim = Claim(
        id=1, kind="every", queue="q", args=encode(args), metadata="{}",
        attempt=1, failures=0, kills=0, max_attempts=1, worker_id=1, **fields,
    )  # fmt: skip

    assert decode(worker(EveryArgs)(lambda args, job: None), claim) == args


def test_the_worker_leaves_no_process_behind(shop):
    worker = shop.work()
    shop.until(lambda: shop.lines("worker.started"))
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.send_signal(signal.SIGINT)

    assert worker.wait(15) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0, 1.5])
def test_a_worker_that_is_stopped_while_it_starts_leaves_no_process_behind(shop, delay):
    parent = shop.worker("--processes", "2")
    time.sleep(delay)
    family = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGTERM)

    assert parent.wait(20) in {0, -signal.SIGTERM}
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert "Traceback" not in shop.log()


def test_four_processes_run_every_job_once_and_share_no_connection(shop):
    shop.jobs(both(reindex="note(os.getpid())"))
    jobs = [shop.enqueue("reindex_product") for _ in range(400)]
    parent = shop.worker("--processes", "4")
    shop.drained(30)
    parent.send_signal(signal.SIGTERM)

    assert parent.wait(20) == 0
    assert len(shop.notes()) == 400
    assert {shop.state(job)[:2] for job in jobs[::40]} == {("completed", 1)}
