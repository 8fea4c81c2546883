"""The engine of `forgecore jobs work`: limits of time, stops, cancels, pauses, callbacks."""

import json
import signal
import time
from datetime import timedelta

import psycopg
import pytest


def one(shop, body, options="", flavour="def", job="Job", head=""):
    """Write a worker of one kind."""
    indented = "\n".join("    " + line for line in body.splitlines())
    shop.jobs(
        f"{head}\n@worker(NotifyNewProductArgs{options})\n"
        f"{flavour} notify_new_product(args: NotifyNewProductArgs, job: {job}) -> None:\n{indented}\n"
    )


@pytest.mark.parametrize(
    ("body", "flavour"),
    [
        ("while True:\n    pass", "def"),
        ("job.tx.execute('SELECT pg_sleep(60)')", "def"),
        (
            "try:\n    time.sleep(0.5)\n    job.tx.execute('SELECT pg_sleep(60)')\nfinally:\n    note('end')",
            "def",
        ),
        ("await asyncio.sleep(60)", "async def"),
        ("await job.tx.execute('SELECT pg_sleep(60)')", "async def"),
    ],
)
def test_a_time_limit_interrupts(shop, body, flavour):
    one(
        shop,
        f"note(job.attempt)\nif job.attempt == 2:\n    return\n{body}",
        ", timeout=timedelta(seconds=1)",
        flavour,
        "AsyncJob" if flavour == "async def" else "Job",
    )
    job = shop.enqueue(backoff="constant:1s")
    begun = time.monotonic()

    process = shop.work()
    shop.drained()

    assert shop.state(job) == ("completed", 2, 1, ["TimeLimitExceeded"])
    assert time.monotonic() - begun < 10
    assert process.poll() is None


def test_the_rows_timeout_comes_before_the_workers(shop):
    one(shop, "time.sleep(1.5)", ", timeout=timedelta(seconds=1)")
    longer, shorter = shop.enqueue(timeout="10s"), shop.enqueue(timeout="0.5s", max_attempts=1)

    shop.work()
    shop.drained()

    assert shop.state(longer)[0] == "completed"
    assert shop.state(shorter) == ("discarded", 1, 1, ["TimeLimitExceeded"])


def test_jobs_around_their_limit_all_end_once(shop):
    shop.sql.execute("CREATE TABLE effects (job bigint, attempt int)")
    one(
        shop,
        "end = time.monotonic() + (job.id % 40) / 100\nwhile time.monotonic() < end:\n    pass\n"
        "job.tx.execute('INSERT INTO effects VALUES (%s, %s)', (job.id, job.attempt))",
        ", timeout=timedelta(milliseconds=200)",
    )
    ids = [shop.enqueue(max_attempts=1) for _ in range(200)]

    shop.work(FORGE_JOBS_QUEUES="notifications=8")
    shop.drained(60)

    states = [shop.state(job) for job in ids]
    ended = {job for job, state in zip(ids, states, strict=True) if state[0] == "completed"}
    assert {state[0] for state in states} == {"completed", "discarded"}
    assert {row[0] for row in shop.sql.execute("SELECT job FROM effects")} == ended
    assert shop.sql.execute("SELECT count(*) FROM effects").fetchone()[0] == len(ended)


def test_a_slot_that_does_not_react_is_lost_and_reported(shop):
    # What holds on to the interpreter's C code hears no exception.
    one(
        shop,
        "note(job.attempt)\nif job.attempt == 1:\n    time.sleep(30)",
        ", timeout=timedelta(seconds=1)",
    )
    job = shop.enqueue(backoff="constant:1s")

    shop.work(FORGE_JOBS_QUEUES="notifications=4")
    shop.until(lambda: shop.lines("slot.lost"), 15)
    shop.drained()

    (lost,) = shop.lines("slot.lost")
    assert "time.sleep(30)" in lost["stack"]
    assert shop.state(job) == ("completed", 2, 1, ["TimeLimitExceeded"])
    slots = "SELECT lost_slots FROM forge.job_workers"
    shop.until(lambda: shop.sql.execute(slots).fetchone() == (1,))


@pytest.mark.parametrize("flavour", ["def", "async def"])
def test_sigterm_gives_back_what_outlasts_the_grace(shop, flavour):
    wait = (
        "await asyncio.sleep(30)"
        if flavour == "async def"
        else "for _ in range(3000):\n    time.sleep(0.01)"
    )
    one(
        shop, f"note('start')\n{wait}", "", flavour, "AsyncJob" if flavour == "async def" else "Job"
    )
    job = shop.enqueue()
    worker = shop.work(FORGE_JOBS_GRACE="2s")
    shop.until(shop.notes)

    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0

    assert 1.9 < time.monotonic() - begun < 6
    assert shop.state(job) == ("available", 1, 0, [])
    assert shop.sql.execute("SELECT kills FROM forge.jobs").fetchone() == (0,)


def test_a_second_sigterm_ends_the_grace(shop):
    one(shop, "note('start')\ntime.sleep(30)")
    job = shop.enqueue()
    worker = shop.work()
    shop.until(shop.notes)
    worker.send_signal(signal.SIGTERM)
    shop.until(lambda: shop.lines("worker.stopping"))

    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)

    assert time.monotonic() - begun < 8
    assert shop.state(job) == ("available", 1, 0, [])


@pytest.mark.parametrize("flavour", ["def", "async def"])
def test_a_running_job_is_cancelled_within_a_second_or_so(shop, flavour):
    wait = (
        "await asyncio.sleep(30)" if flavour == "async def" else "while True:\n    time.sleep(0.01)"
    )
    one(
        shop, f"note('start')\n{wait}", "", flavour, "AsyncJob" if flavour == "async def" else "Job"
    )
    job = shop.enqueue()
    shop.work()
    shop.until(shop.notes)

    shop.ok("jobs", "cancel", str(job))
    begun = time.monotonic()
    shop.drained(5)

    assert time.monotonic() - begun < 2.5
    assert shop.state(job) == ("cancelled", 1, 0, [])


def test_a_process_that_lost_its_lease_ends_what_it_runs(shop):
    one(shop, "note('start', job.attempt)\nfor _ in range(300):\n    time.sleep(0.1)\nnote('end')")
    shop.enqueue()
    worker = shop.work()
    shop.until(shop.notes)
    worker.send_signal(signal.SIGSTOP)
    shop.sql.execute("UPDATE forge.job_workers SET beat_at = '-infinity'")
    from forgecore_jobs.engine.store import Store

    store = Store(shop.url, name="test")
    shop.until(store.rescue)
    store.close()

    worker.send_signal(signal.SIGCONT)

    shop.until(lambda: shop.lines("job.lease_lost"), 10)
    shop.until(lambda: "start 2" in shop.notes())
    assert "end" not in shop.notes()


def test_hundreds_of_async_jobs_run_at_once_without_a_thread_each(shop):
    one(
        shop,
        "import threading\nnote(threading.active_count())\nawait asyncio.sleep(2)",
        "",
        "async def",
        "AsyncJob",
    )
    for _ in range(300):
        shop.enqueue()

    begun = time.monotonic()
    shop.work(FORGE_JOBS_QUEUES="notifications=500")
    shop.drained()

    assert time.monotonic() - begun < 10
    assert max(map(int, shop.notes())) < 30


def test_a_worker_that_blocks_the_loop_is_named(shop):
    one(shop, "time.sleep(3)", "", "async def", "AsyncJob")
    shop.enqueue()

    shop.work()
    shop.drained()

    (blocked,) = shop.lines("loop.blocked")
    assert "time.sleep(3)" in blocked["stack"]


CALLBACKS = """
def on_error(args: NotifyNewProductArgs, job: Job, error: BaseException) -> None:
    note("error", job.attempt, type(error).__name__, current_tenant() == args.tenant_id)

def on_discard(args: NotifyNewProductArgs, job: Job, error: BaseException) -> None:
    note("discard", job.attempt, current_tenant() == args.tenant_id)
    job.tx.execute("INSERT INTO effects VALUES (%s)", (job.attempt,))
"""


@pytest.mark.parametrize("flavour", ["def", "async def"])
def test_callbacks_have_the_tenant_and_write_with_the_outcome(shop, flavour):
    shop.sql.execute("CREATE TABLE effects (attempt int)")
    head, job_class = CALLBACKS, "Job"
    if flavour == "async def":
        job_class = "AsyncJob"
        head = (
            CALLBACKS.replace("def on", "async def on")
            .replace("job: Job", "job: AsyncJob")
            .replace("    job.tx", "    await job.tx")
        )
    one(
        shop,
        'raise ValueError("no")',
        ", on_error=on_error, on_discard=on_discard",
        flavour,
        job_class,
        head,
    )
    job = shop.enqueue(max_attempts=2, backoff="constant:1s")

    shop.work()
    shop.drained()

    assert shop.notes() == [
        "error 1 ValueError True",
        "error 2 ValueError True",
        "discard 2 True",
    ]
    assert shop.state(job) == ("discarded", 2, 2, ["ValueError", "ValueError"])
    xmins = shop.sql.execute(
        "SELECT xmin::text FROM effects UNION SELECT xmin::text FROM forge.jobs_discarded"
    ).fetchall()
    assert len(xmins) == 1


@pytest.mark.parametrize("what", ["raise SystemExit", "1 / 0", "job.tx.execute('SELECT nothing')"])
def test_a_callback_that_fails_changes_nothing(shop, what):
    head = (
        "\ndef broken(args: NotifyNewProductArgs, job: Job, error: BaseException) -> None:\n"
        f"    {what}\n"
    )
    one(shop, "raise ValueError", ", on_error=broken, on_discard=broken", head=head)
    job = shop.enqueue(max_attempts=1)

    process = shop.work()
    shop.drained()

    assert shop.state(job) == ("discarded", 1, 1, ["ValueError"])
    assert len(shop.lines("job.callback_failed")) == 2
    assert process.poll() is None


def test_what_dramatiq_knows_of_retries_is_honoured(shop):
    head = "\nimport dramatiq\n"
    shop.jobs(
        head
        + """
@worker(NotifyNewProductArgs, throws=(KeyError, ValueError))
def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:
    raise ValueError

@worker(ReindexProductArgs, retry_when=lambda failures, error: not isinstance(error, KeyError))
def reindex_product(args: ReindexProductArgs, job: Job) -> None:
    if job.attempt == 1:
        raise dramatiq.Retry("soon", delay=1)
    raise KeyError
"""
    )
    thrown, asked = shop.enqueue(), shop.enqueue("reindex_product")

    shop.work()
    shop.drained()

    assert shop.state(thrown) == ("discarded", 1, 1, ["ValueError"])
    assert shop.state(asked) == ("discarded", 2, 2, ["Retry", "KeyError"])


def test_middleware_of_the_project_sees_every_job(shop):
    head = """
import dramatiq

class Seen(dramatiq.Middleware):
    def before_process_message(self, broker, message):
        note("before", message.actor_name)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        note("after", type(exception).__name__)

dramatiq.get_broker().add_middleware(Seen())
"""
    one(shop, "if job.attempt == 1:\n    raise ValueError", head=head)
    shop.enqueue(backoff="constant:1s")

    shop.work()
    shop.drained()

    assert shop.notes() == [
        "before notify_new_product",
        "after ValueError",
        "before notify_new_product",
        "after NoneType",
    ]


def test_a_queue_or_kind_that_is_paused_waits_until_it_is_resumed(shop):
    one(shop, "note(job.id)")
    shop.work()
    shop.until(lambda: shop.lines("worker.started"))
    for what in ("--queue=notifications", "--kind=notify_new_product"):
        shop.ok("jobs", "pause", what)
        job = shop.enqueue()
        time.sleep(1.5)
        assert shop.state(job) == ("available", 0, 0, [])

        shop.ok("jobs", "resume", what)
        begun = time.monotonic()
        shop.drained(5)

        assert time.monotonic() - begun < 2.5


def test_many_claimers_take_each_job_once(shop):
    from concurrent.futures import ThreadPoolExecutor

    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Store

    shop.sql.execute(
        "INSERT INTO forge.jobs (kind, queue, args, priority)"
        " SELECT 'k', 'q' || n % 2, '{}', n % 10 FROM generate_series(1, 5000) AS n"
    )

    def drain(_number):
        store = Store(shop.url, name="test", prepare=True)
        worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
        claimer, found = Claimer(["k"], 25), []
        while batch := claimer.claim(store, worker, {"q0": 37, "q1": 11}):
            found += batch
        store.close()
        return found

    with ThreadPoolExecutor(4) as pool:
        found = [claim for part in pool.map(drain, range(4)) for claim in part]

    assert len({claim.id for claim in found}) == len(found) == 5000
    assert {claim.attempt for claim in found} == {1}


def test_the_first_priority_comes_first_and_then_the_oldest(shop):
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Store

    ids = [
        shop.enqueue("k", queue="q", priority=priority, run_at=f"2026-01-0{day}")
        for priority, day in ((5, 2), (5, 1), (0, 3), (9, 1))
    ]
    future = shop.enqueue("k", queue="q", priority=0, run_at="2126-01-01")
    store = Store(shop.url, name="test")
    worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))

    claimer = Claimer(["k"], 25)
    order = [claimer.claim(store, worker, {"q": 1})[0].id for _ in range(4)]
    assert claimer.claim(store, worker, {"q": 1}) == []
    store.close()

    assert order == [ids[2], ids[1], ids[0], ids[3]]
    assert shop.state(future)[0] == "scheduled"


def test_a_job_that_commits_late_is_found_behind_newer_ones(shop):
    one(shop, "note(job.id)")
    shop.work()
    shop.until(lambda: shop.lines("worker.started"))
    with psycopg.connect(shop.url) as slow:
        late = slow.execute(
            "INSERT INTO forge.jobs (kind, queue, args) SELECT 'notify_new_product', 'notifications',"
            " jsonb_build_object('resource_id', gen_random_uuid(), 'tenant_id', gen_random_uuid())"
            " RETURNING id"
        ).fetchone()[0]
        for _ in range(20):
            shop.enqueue()
            time.sleep(0.2)
        slow.commit()

    shop.drained(5)

    assert shop.state(late)[0] == "completed"


def test_claims_stay_cheap_beside_future_jobs_and_under_a_held_snapshot(shop):
    """By what is read, not by time: a claim touches few pages, however much has passed."""
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Settled, Store
    from forgecore_jobs.job import Finished

    insert = (
        "INSERT INTO forge.jobs (kind, queue, args, priority, run_at) SELECT 'k', 'q', '{}',"
        " %s, now() + %s * interval '1 day' FROM generate_series(1, %s)"
    )
    shop.sql.execute(insert, (0, 1, 20_000))
    shop.sql.execute(insert, (5, 0, 10_000))
    store = Store(shop.url, name="test", prepare=True)
    worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
    claimer = Claimer(["k"], 25)

    def pages():
        store._run("SELECT pg_stat_force_next_flush()", {})
        row = shop.sql.execute(
            "SELECT idx_blks_hit + idx_blks_read FROM pg_statio_user_tables WHERE relname = 'jobs'"
        ).fetchone()
        return row[0]

    with psycopg.connect(shop.url) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM forge.jobs")
        spent = []
        for _ in range(100):
            before = pages()
            claims = claimer.claim(store, worker, {"q": 100})
            spent.append(pages() - before)
            done = [Settled(claim=c, outcome=Finished(state="completed")) for c in claims]
            assert len(store.settle(done)) == len(claims)
    store.close()

    assert sorted(spent)[50] < 400, spent
    assert sorted(spent[-20:])[10] < 2 * sorted(spent[2:22])[10], spent


def test_a_claim_is_a_hot_update(shop):
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Store

    shop.sql.execute(
        "INSERT INTO forge.jobs (kind, queue, args) SELECT 'k', 'q', '{}' FROM generate_series(1, 1000)"
    )
    store = Store(shop.url, name="test")
    worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
    Claimer(["k"], 25).claim(store, worker, {"q": 1000})
    store._run("SELECT pg_stat_force_next_flush()", {})
    store.close()

    updates = shop.sql.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
    ).fetchone()
    assert updates[0] == 1000
    assert updates[1] > 900, updates


def test_finished_jobs_are_dropped_by_the_day_and_state(shop):
    columns = "(id, run_at, enqueued_at, finished_at, attempt, failures, kills, priority, state, kind, queue, args, metadata)"
    shop.sql.execute("CREATE TABLE forge.jobs_completed_20250101 PARTITION OF forge.jobs_completed FOR VALUES FROM ('2025-01-01') TO ('2025-01-02')")  # fmt: skip
    for number, (day, state) in enumerate(
        [
            ("2025-01-01 12:00Z", "completed"),
            ("2025-01-01 12:00Z", "discarded"),
            ("now", "completed"),
        ]
    ):
        shop.sql.execute(
            f"INSERT INTO forge.jobs_finished {columns} VALUES"
            f" ({number}, now(), now(), '{day}', 1, 1, 0, 5, '{state}', 'k', 'q', '{{}}', '{{}}')".encode()
        )
        shop.sql.execute(
            "INSERT INTO forge.job_errors VALUES (%s, 1, now(), 'E', 'm', 't')", (number,)
        )

    dry = json.loads(shop.ok("jobs", "prune", "--dry-run", "--json"))
    assert {row["part"]: row["rows"] for row in dry} == {
        "jobs_completed_20250101": 1,
        "jobs_discarded_rest": 1,
    }
    shop.ok("jobs", "prune")

    left = shop.sql.execute("SELECT id FROM forge.jobs_finished").fetchall()
    assert left == [(2,)]
    assert shop.sql.execute("SELECT to_regclass('forge.jobs_completed_20250101')").fetchone() == (
        None,
    )
    assert (0,) not in shop.sql.execute("SELECT job_id FROM forge.job_errors").fetchall()


def test_partitions_are_made_ahead_and_take_over_what_came_before_them(shop):
    shop.sql.execute(
        "DO $$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhrelid::regclass::text ~ '_[0-9]{8}$' LOOP EXECUTE format('DROP TABLE %s', part); END LOOP; END $$"
    )
    one(shop, "pass")
    job = shop.enqueue()
    shop.work()
    shop.drained()
    assert shop.sql.execute("SELECT id FROM forge.jobs_completed_rest").fetchall() == [(job,)]

    made = shop.sql.execute("SELECT forge.jobs_partition()").fetchone()

    assert made == (12,)
    assert shop.sql.execute("SELECT id FROM forge.jobs_completed_rest").fetchall() == []
    assert shop.state(job)[0] == "completed"


def test_who_sleeps_is_woken(shop):
    one(shop, "note(time.time())")
    shop.work()
    shop.until(lambda: shop.lines("worker.started"))
    time.sleep(3)
    waits = []
    for number in range(5):
        time.sleep(1)
        begun = time.time()
        shop.enqueue()
        shop.until(lambda number=number: len(shop.notes()) > number)
        waits.append(float(shop.notes()[-1]) - begun)

    # Polling alone would take a quarter of a second in the middle.
    assert sorted(waits)[2] < 0.1, waits


def test_jobs_of_others_do_not_keep_enqueuers_waiting_for_this_worker(shop):
    one(shop, "note(job.id)")
    shop.work()
    asleep = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )
    shop.until(lambda: shop.sql.execute(asleep).fetchone() == (1,))
    held = 0
    for _ in range(100):
        shop.enqueue("nobody_here", queue="notifications")
        time.sleep(0.02)
        held += shop.sql.execute(asleep).fetchone()[0]

    # While it is held, every enqueue notifies, and commits that notify wait for each other.
    assert held < 50


def test_without_listening_jobs_are_found_all_the_same(shop):
    one(shop, "note(job.id)")
    shop.work(FORGE_JOBS_LISTEN="false")
    shop.until(lambda: shop.lines("worker.started"))
    time.sleep(2)
    job = shop.enqueue()

    shop.drained(3)

    assert shop.state(job)[0] == "completed"
    # Other tests' workers listen on the same server, so only this database's locks count.
    locks = shop.sql.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    ).fetchone()
    assert locks == (0,)


@pytest.mark.parametrize("flavour", ["def", "async def"])
def test_callbacks_write_after_a_timeout_too(shop, flavour):
    shop.sql.execute("CREATE TABLE effects (attempt int)")
    head = CALLBACKS.replace(
        "INSERT INTO effects", "SELECT pg_sleep(0.3); INSERT INTO effects"
    ).replace('VALUES (%s)", (job.attempt,)', 'SELECT 2"')
    wait, job_class = "time.sleep(0.01)", "Job"
    if flavour == "async def":
        wait, job_class = "await asyncio.sleep(0.01)", "AsyncJob"
        head = (
            head.replace("def on", "async def on")
            .replace("job: Job", "job: AsyncJob")
            .replace("    job.tx", "    await job.tx")
        )
    one(
        shop,
        f"await job.tx.execute('SELECT 1')\nwhile True:\n    {wait}"
        if flavour == "async def"
        else f"job.tx.execute('SELECT 1')\nwhile True:\n    {wait}",
        ", timeout=timedelta(seconds=1), on_discard=on_discard",
        flavour,
        job_class,
        head,
    )
    jobs = [shop.enqueue(max_attempts=1) for _ in range(4)]

    shop.work()
    shop.drained()

    assert {shop.state(job)[0] for job in jobs} == {"discarded"}
    assert shop.sql.execute("SELECT count(*) FROM effects").fetchone() == (4,)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("@worker\ndef f(args, job): ...", "@worker takes the class of a kind's arguments"),
        ("class N: ...\n@worker(N)\ndef f(args, job): ...", "N is no attrs class with `kind"),
        ("@worker(NotifyNewProductArgs)\ndef f(): ...", "f must take the arguments and the job"),
        (
            "@worker(NotifyNewProductArgs, timeout=5)\ndef f(args, job): ...",
            "timeout must be a timedelta",
        ),
        (
            "async def c(a, j, e): ...\n@worker(NotifyNewProductArgs, on_error=c)\ndef f(args, job): ...",
            "f is no `async def`, so c cannot be one",
        ),
    ],
)
def test_a_worker_that_cannot_be_one_is_named(shop, code, said):
    shop.jobs(code + "\n")

    for command in (["work"], ["doctor"]):
        done = shop.run("jobs", *command)
        assert done.returncode == 1
        assert "shop/resources/product/jobs.py:" in done.stderr
        assert f"TypeError: {said}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "columns",
    [
        {"args": '{"n": ' + "7" * 5000 + "}"},
        {"args": "[" * 3000 + "]" * 3000},
        {"args": "3"},
        {"metadata": "[1]"},
        {"timeout": "100000000 years"},
        {"timeout": "400 years"},
        {"backoff": "never"},
        {"attempt": 2147483647},
        {"failures": 2147483647},
    ],
)
def test_one_odd_row_stops_no_other_job(shop, columns):
    odd = shop.enqueue(**columns)
    good = [shop.enqueue() for _ in range(3)]

    worker = shop.work()
    shop.until(lambda: {shop.state(job)[0] for job in good} == {"completed"})

    assert shop.state(odd)[0] in {"completed", "discarded", "available"}
    assert "interrupted" not in shop.log()
    worker.terminate()
    assert worker.wait(10) == 0


@pytest.mark.parametrize(
    "raised",
    [
        "raise ValueError('again')",
        "raise type('Odd\\ud800', (Exception,), {})('x')",
        "raise ValueError('\\ud800 \\x00')",
    ],
)
def test_an_outcome_that_cannot_be_written_stops_no_other(shop, raised):
    one(shop, f"if job.id == 1000000:\n    {raised}")
    odd = shop.enqueue(id=1000000, max_attempts=1)
    shop.sql.execute("INSERT INTO forge.job_errors VALUES (1000000, 1, now(), 'old', '', '')")
    good = [shop.enqueue() for _ in range(20)]

    shop.work()
    shop.drained()

    assert {shop.state(job)[0] for job in good} == {"completed"}
    assert shop.state(odd)[0] == "discarded"


def test_a_callback_whose_exception_cannot_be_shown_loses_nothing(shop):
    head = """
class Odd(Exception):
    def __str__(self):
        raise RuntimeError

def broken(args: NotifyNewProductArgs, job: Job, error: BaseException) -> None:
    raise Odd
"""
    one(shop, "raise Odd", ", on_error=broken", head=head)
    job = shop.enqueue(max_attempts=1)

    shop.work()
    shop.drained()

    assert shop.state(job)[0] == "discarded"


def test_a_full_queue_beside_an_idle_one_costs_nothing(shop):
    one(shop, "note('run')\ntime.sleep(6)")
    for _ in range(4):
        shop.enqueue()
    worker = shop.work()
    shop.until(lambda: len(shop.notes()) == 2)
    import psutil

    process = psutil.Process(worker.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(3)

    assert sum(process.cpu_times()[:2]) - before < 0.3


def test_a_job_that_was_cancelled_and_retried_runs(shop):
    one(
        shop,
        "note(job.attempt)\nif job.attempt == 1:\n    while True:\n        time.sleep(0.01)\ntime.sleep(2)",
    )
    job = shop.enqueue()
    shop.work()
    shop.until(shop.notes)
    shop.ok("jobs", "cancel", str(job))
    shop.drained(5)

    shop.ok("jobs", "retry", str(job))
    shop.until(lambda: shop.state(job)[0] == "completed")

    assert shop.state(job) == ("completed", 2, 0, [])


def test_a_wake_up_lock_that_somebody_holds_hangs_nobody(shop):
    one(shop, "pass")
    shop.sql.execute("SELECT pg_advisory_lock(1718579831, 1)")
    shop.work()
    shop.until(lambda: shop.lines("worker.started"))
    time.sleep(2)
    job = shop.enqueue()

    shop.until(lambda: shop.state(job)[0] == "completed", 5)


def test_a_locked_table_does_not_keep_the_process_from_beating(shop):
    one(shop, "note('run')\ntime.sleep(14)")
    job = shop.enqueue()
    shop.work()
    shop.work()
    shop.until(shop.notes)
    with psycopg.connect(shop.url) as locker:
        locker.execute("LOCK TABLE forge.jobs IN ACCESS EXCLUSIVE MODE")
        time.sleep(12)
    shop.drained(20)

    assert shop.state(job)[:3] == ("completed", 1, 0)


def test_a_job_that_a_middleware_skips_is_cancelled_under_dramatiq_too(shop):
    head = """
import dramatiq

class Skip(dramatiq.Middleware):
    def before_process_message(self, broker, message):
        raise dramatiq.middleware.SkipMessage

dramatiq.get_broker().add_middleware(Skip())
"""
    one(shop, "pass", head=head)
    import sys
    from pathlib import Path

    first, second = shop.enqueue(), shop.enqueue()
    shop.work()
    shop.until(lambda: shop.state(first)[0] == "cancelled" and shop.state(second)[0] == "cancelled")
    shop.workers[0].terminate()
    shop.workers[0].wait(10)

    third = shop.enqueue()
    command = str(Path(sys.executable).with_name("dramatiq"))
    shop.workers.append(shop.start(command, "shop.gen.jobs.dramatiq", "--processes", "1"))
    shop.until(lambda: shop.state(third)[0] == "cancelled")


def test_partitions_are_made_while_jobs_finish(shop):
    shop.sql.execute(
        "DO $$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhrelid::regclass::text ~ '_[0-9]{8}$' LOOP EXECUTE format('DROP TABLE %s', part); END LOOP; END $$"
    )
    one(shop, "pass")
    shop.sql.execute(
        "INSERT INTO forge.jobs (kind, queue, args) SELECT 'notify_new_product', 'notifications',"
        " jsonb_build_object('resource_id', gen_random_uuid(), 'tenant_id', gen_random_uuid())"
        " FROM generate_series(1, 3000)"
    )
    shop.work(FORGE_JOBS_QUEUES="notifications=50")
    shop.until(lambda: shop.sql.execute("SELECT FROM forge.jobs_completed_rest LIMIT 1").rowcount)

    # Or the worker's own maintenance, at a moment of its choice, was the first.
    assert shop.sql.execute("SELECT forge.jobs_partition()").fetchone() in {(12,), (0,)}
    shop.drained(30)
    parts = "SELECT FROM pg_class WHERE relname ~ '^jobs_[a-z]+_[0-9]{8}$' AND relispartition"
    assert shop.sql.execute(parts).rowcount == 12
    assert shop.sql.execute("SELECT count(*) FROM forge.jobs_finished").fetchone() == (3000,)


@pytest.mark.parametrize("outcome", ["finished", "again", "back"])
def test_an_outcome_of_a_lost_claim_is_refused(shop, outcome):
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Settled, Store
    from forgecore_jobs.job import Again, Failure, Finished, GivenBack

    job = shop.enqueue("k", queue="q")
    stores = [Store(shop.url, name=name) for name in ("slow", "quick")]
    claims = []
    for store in stores:
        worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
        claims += Claimer(["k"], 25).claim(store, worker, {"q": 1})
        if store is stores[0]:
            shop.sql.execute("UPDATE forge.job_workers SET beat_at = '-infinity'")
            shop.until(store.rescue)
    failure = Failure(error="E", message="m", traceback="t")
    made = {
        "finished": Finished(state="discarded", failure=failure),
        "again": Again(delay=timedelta(0), failure=failure),
        "back": GivenBack(),
    }[outcome]

    assert stores[0].settle([Settled(claim=claims[0], outcome=made)]) == set()
    assert shop.state(job) == ("running", 2, 0, [])

    completed = Settled(claim=claims[1], outcome=Finished(state="completed"))
    assert stores[1].settle([completed]) == {job}
    assert stores[1].settle([completed]) == set()
    assert shop.state(job) == ("completed", 2, 0, [])
    for store in stores:
        store.close()


SIGNALLED = """
import signal, sys, threading
from forgecore_jobs.engine import flag as module
from forgecore_jobs.engine.flag import Flag

flag, lines = Flag(), set()

def at_each_line(frame, event, _):
    if frame.f_code.co_filename in {module.__file__, threading.__file__}:
        if event == "line" and frame.f_code.co_name == "wait" and not flag.is_set():
            lines.add(frame.f_lineno)
            if frame.f_lineno == wanted:
                signal.raise_signal(signal.SIGTERM)
        return at_each_line

signal.signal(signal.SIGTERM, lambda number, frame: flag.set())
wanted, told = 0, []
sys.settrace(at_each_line)
flag.wait(0.01)
for wanted in sorted(lines):
    flag = Flag()
    told.append(flag.wait(5))
sys.settrace(None)
print(len(told), all(told))
"""


def test_a_signal_in_the_middle_of_a_wait_holds_nothing_up(shop):
    done = shop.python(SIGNALLED, timeout=20)

    assert done.returncode == 0, done.stderr
    count, were_told = done.stdout.split()
    assert int(count) >= 2
    assert were_told == "True"
