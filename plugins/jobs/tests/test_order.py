"""Jobs that wait for others: sequences, follow-ups, chains."""

import json
import sys
import time

import psycopg
import pytest

SCHEMA = """
[resource]
name = "Product"

[fields]
title = { type = "string", required = true }
price = { type = "int", default = 0 }

[[hooks.after_create]]
kind = "sync_product"
sequence = "blocks"

[[hooks.after_update]]
kind = "sync_product"
sequence = "blocks"

[[hooks.after_update]]
kind = "push_product"
sequence = "passes"
only_if_changed = ["title"]
backoff = "constant:2s"

[[hooks.after_update]]
kind = "index_product"
sequence = "blocks"
unique = {}
"""
WORKERS = """
@worker(SyncProductArgs)
def sync_product(args, job):
    note("sync", args.resource_id, job.id)

@worker(PushProductArgs)
def push_product(args, job):
    note("push", job.id, job.attempt)
    if os.path.exists("refuse") and job.attempt == 1:
        raise ValueError("not yet")

@worker(IndexProductArgs)
def index_product(args, job):
    note("index", args.resource_id, job.id)
"""
STEPS = """
from typing import ClassVar
from attrs import frozen

@frozen
class StepArgs:
    kind: ClassVar[str] = "step"
    name: str

@worker(StepArgs)
def step(args, job):
    note(args.name, *(output_of(job.tx, one) for one in job.after))
    if args.name == "wait":
        time.sleep(0.5)
    if args.name == "bad":
        raise Discard("no")
    job.output = {"name": args.name}

@frozen
class LaterArgs:
    kind: ClassVar[str] = "later"
    name: str

@worker(LaterArgs)
async def later(args, job):
    note("later", args.name)
    job.output = [args.name]
"""
HEAD = """
import json, uuid
from forgecore.runtime import connect
from forgecore_jobs import *
from shop.resources.product.jobs import *
"""


@pytest.fixture(scope="module")
def ready(building):
    return building(SCHEMA, '[project]\nname = "shop"\nplugins = ["jobs", "scaffold"]\n')


def out(shop, code: str) -> object:
    """Run code with a database `db`; return what it prints last, as JSON."""
    done = shop.python(f"{HEAD}\nwith connect() as db:\n    {code}\n")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def states(shop) -> list[tuple[str, str]]:
    """Return the names of steps, and their states, by id."""
    rows = shop.sql.execute(
        "SELECT args->>'name', state FROM forge.jobs_all ORDER BY id"
    ).fetchall()
    return [tuple(row) for row in rows]


def nothing_waits(shop) -> bool:
    return shop.sql.execute("SELECT FROM forge.job_waits").rowcount == 0


UPDATES = """
import sys, uuid
from forgecore.runtime import connect
from shop.gen.actions.product import ProductActions
from shop.gen.models.product import ProductUpdate
ids = [uuid.UUID(line) for line in open("ids").read().split()]
with connect() as db:
    actions = ProductActions(db)
    for turn in range(int(sys.argv[1])):
        for one in ids:
            actions.update(one, ProductUpdate(price=1000 * int(sys.argv[2]) + turn))
"""
LAPS = WORKERS.replace(
    """    note("sync", args.resource_id, job.id)
""",
    """    with open(f"laps/{args.resource_id}", "a", buffering=1) as file:
        file.write(f"+{job.id}\\n")
        file.write(f"-{job.id}\\n")
""",
).replace('    note("index", args.resource_id, job.id)', "    pass")


def records(shop, count: int) -> list[object]:
    """Write records without their jobs; return their ids."""
    shop.sql.execute(
        "INSERT INTO products (id, title) "
        "SELECT gen_random_uuid(), 'x' FROM generate_series(1, %s)",
        (count,),
    )
    ids = [row[0] for row in shop.sql.execute("SELECT id FROM products").fetchall()]
    shop.write("ids", "\n".join(map(str, ids)))
    return ids


def test_processes_run_a_records_jobs_one_at_a_time_and_in_order(shop):
    shop.jobs(LAPS)
    (shop.folder / "laps").mkdir()
    ids = records(shop, 1000)
    shop.write("updates.py", UPDATES)
    for _ in range(3):
        shop.work()
    writers = [shop.start(sys.executable, "updates.py", "5", str(one)) for one in range(1, 5)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0], shop.log()
    shop.drained(120)

    assert nothing_waits(shop)
    for one in ids:
        lap = (shop.folder / "laps" / str(one)).read_text().split()
        begun = [int(entry) for entry in lap if entry.startswith("+")]
        assert len(begun) == 20
        assert begun == sorted(begun)
        assert lap == [part for job in begun for part in (f"+{job}", f"-{job}")]


def test_a_failing_job_blocks_its_sequence_until_it_has_ended(shop):
    shop.jobs(STEPS)
    ids = [
        out(shop, f"print(enqueue(db, StepArgs({name!r}), sequence='s'))")
        for name in ("bad", "wait", "last")
    ]
    assert [state for _, state in states(shop)] == ["available", "waiting", "waiting"]
    shop.work()
    shop.drained()

    assert [shop.state(one)[0] for one in ids] == ["discarded", "completed", "completed"]
    assert shop.notes() == ["bad", "wait", "last"]


def test_a_failing_job_lets_its_sequence_pass_and_comes_in_again(shop):
    shop.jobs(WORKERS)
    (one,) = records(shop, 1)
    shop.write("refuse", "")
    code = (
        "import uuid; from shop.gen.models.product import *; from shop.gen.actions.product import *; "
        f"[ProductActions(db).update(uuid.UUID('{one}'), ProductUpdate(title=f'a{{n}}')) "
        "for n in range(3)]; print(0)"
    )
    out(shop, code)
    shop.work()
    shop.until(lambda: len([note for note in shop.notes() if note.startswith("push")]) == 3)
    (shop.folder / "refuse").unlink()
    shop.drained()

    pushes = [note.split()[1:] for note in shop.notes() if note.startswith("push")]
    jobs = [job for job, attempt in pushes if attempt == "1"]
    assert jobs == sorted(jobs, key=int)
    assert sorted(job for job, attempt in pushes if attempt != "1") == jobs
    assert nothing_waits(shop)


PASSING = """
from typing import ClassVar
from attrs import frozen

@frozen
class PassArgs:
    kind: ClassVar[str] = "pass_on"
    name: str

@worker(PassArgs, retry_when=lambda failures, error: True)
def pass_on(args, job):
    note("+", args.name)
    if args.name == "first" and job.attempt == 1:
        raise ValueError
    time.sleep(1)
    note("-", args.name)
"""


def test_who_comes_in_again_overlaps_with_nobody(shop):
    shop.jobs(PASSING)
    for name in ("first", "second", "third"):
        out(shop, f"print(enqueue(db, PassArgs({name!r}), sequence='s', failing='passes'))")
    shop.sql.execute("UPDATE forge.jobs SET backoff = 'constant:0s'")
    shop.work()
    shop.drained()

    assert shop.notes() == [
        *("+ first", "+ second", "- second", "+ third", "- third", "+ first", "- first"),
    ]


def test_a_cancelled_job_does_not_let_the_next_overtake_the_one_before(shop):
    shop.jobs(STEPS)
    out(shop, "print(enqueue(db, StepArgs('wait'), sequence='s'))")
    middle = out(shop, "print(enqueue(db, StepArgs('middle'), sequence='s'))")
    out(shop, "print(enqueue(db, StepArgs('last'), sequence='s'))")
    shop.ok("jobs", "cancel", str(middle))
    tail = out(shop, "print(enqueue(db, StepArgs('tail'), sequence='s'))")
    shop.ok("jobs", "cancel", str(tail))
    out(shop, "print(enqueue(db, StepArgs('end'), sequence='s'))")

    assert [state for _, state in states(shop)] == [
        *("available", "cancelled", "waiting", "cancelled", "waiting"),
    ]
    shop.work()
    shop.drained()
    assert shop.notes() == ["wait", "last", "end"]
    assert nothing_waits(shop)


def test_the_order_of_a_sequence_is_that_of_the_commits(shop):
    first, second = psycopg_to(shop), psycopg_to(shop)
    first.execute("BEGIN")
    a = first.execute("SELECT forge.enqueue('k', '{}', sequence => 's')").fetchone()[0]
    import threading

    done: list[int] = []

    def enqueue() -> None:
        row = second.execute("SELECT forge.enqueue('k', '{}', sequence => 's')").fetchone()
        done.append(row[0])

    thread = threading.Thread(target=enqueue)
    thread.start()
    time.sleep(0.3)
    assert not done  # it waits for the first to commit
    first.execute("COMMIT")
    thread.join(10)
    (b,) = done

    assert a < b
    assert shop.sql.execute("SELECT job_id, on_id FROM forge.job_waits").fetchall() == [(b, a)]


def psycopg_to(shop):
    return psycopg.connect(shop.url, autocommit=True)


def test_a_commit_that_comes_after_the_end_of_what_it_waits_for_waits_no_more(shop):
    shop.jobs(STEPS)
    slow = psycopg_to(shop)
    first = out(shop, "print(enqueue(db, StepArgs('one')))")
    failed = out(shop, "print(enqueue(db, StepArgs('bad')))")
    slow.execute("BEGIN")
    row = "SELECT forge.enqueue('step', '{\"name\": \"%s\"}', after => ARRAY[%s]::bigint[])"
    slow.execute((row % ("two", first)).encode())
    slow.execute((row % ("never", failed)).encode())
    shop.work()
    shop.until(lambda: shop.sql.execute("SELECT FROM forge.jobs").rowcount == 0)
    slow.execute("COMMIT")
    shop.drained()

    assert states(shop) == [
        *(("one", "completed"), ("bad", "discarded"), ("two", "completed"), ("never", "cancelled")),
    ]
    assert nothing_waits(shop)


def test_a_job_that_somebody_looks_at_is_told_in_a_moment(shop):
    shop.jobs(STEPS)
    first = out(shop, "print(enqueue(db, StepArgs('one')))")
    second = out(shop, f"print(enqueue(db, StepArgs('two'), after=[{first}]))")
    reader = psycopg_to(shop)
    reader.execute("BEGIN")
    reader.execute("SELECT FROM forge.jobs WHERE id = %s FOR SHARE", (second,))
    shop.work()
    # The outcome of the first waits for nobody.
    shop.until(lambda: shop.state(first)[0] == "completed")
    assert shop.state(second)[0] == "waiting"
    reader.execute("COMMIT")
    shop.drained()
    assert shop.notes() == ["one", "two None"] or shop.notes()[1].startswith("two {")


# --- follow-ups and chains


def test_a_chain_runs_in_order_and_hands_its_outputs_on(shop):
    shop.jobs(STEPS)
    ids = out(
        shop,
        "print(json.dumps(enqueue_chain(db, [StepArgs('a'), Step(StepArgs('b'), priority=1), "
        "LaterArgs('c')])))",
    )
    assert [state for _, state in states(shop)] == ["available", "waiting", "waiting"]
    assert json.loads(shop.ok("jobs", "show", str(ids[1]), "--json"))["waits_for"] == [ids[0]]
    shop.work()
    shop.drained()

    assert shop.notes() == ["a", "b {'name': 'a'}", "later c"]
    shown = json.loads(shop.ok("jobs", "show", str(ids[2]), "--json"))
    assert shown["output"] == ["c"]
    assert 'output        ["c"]' in shop.ok("jobs", "show", str(ids[2]))


def test_what_follows_depends_on_the_end(shop):
    shop.jobs(STEPS)
    for name in ("good", "bad"):
        out(
            shop,
            f"print(enqueue(db, StepArgs({name!r}), "
            f"on_success=[StepArgs('yes-{name}'), Step(StepArgs('then-{name}'), "
            f"on_success=LaterArgs('more-{name}'))], on_failure=StepArgs('no-{name}')))",
        )
    shop.work()
    shop.drained()

    assert sorted(states(shop)) == sorted(
        [
            ("good", "completed"),
            ("yes-good", "completed"),
            ("then-good", "completed"),
            ("more-good", "completed"),
            ("bad", "discarded"),
            ("yes-bad", "cancelled"),
            ("then-bad", "cancelled"),
            ("more-bad", "cancelled"),
            ("no-bad", "completed"),
        ]
    )
    why = shop.sql.execute(
        "SELECT args->>'name', errors->0->>'message' FROM forge.jobs_all WHERE state = 'cancelled'"
    ).fetchall()
    jobs = dict(shop.sql.execute("SELECT args->>'name', id FROM forge.jobs_finished").fetchall())
    assert dict(why) == {
        "yes-bad": f"job {jobs['bad']} was discarded",
        "then-bad": f"job {jobs['bad']} was discarded",
        "more-bad": f"job {jobs['then-bad']} was cancelled",
    }
    assert nothing_waits(shop)


def test_a_job_runs_after_all_that_it_waits_for(shop):
    shop.jobs(STEPS)
    ids = [out(shop, "print(enqueue(db, StepArgs('wait')))") for _ in range(3)]
    out(shop, f"print(enqueue(db, StepArgs('all'), after={ids}))")
    out(shop, f"print(enqueue(db, StepArgs('any'), after={ids}, needs='ended'))")
    shop.ok("jobs", "cancel", str(ids[0]))
    shop.work()
    shop.drained()

    assert [state for _, state in states(shop)] == [
        *("cancelled", "completed", "completed", "cancelled", "completed"),
    ]


def test_after_a_job_that_is_not_there(shop):
    done = shop.python(f"{HEAD}\nwith connect() as db:\n    enqueue(db, StepArgs('x'), after=[99])")
    assert "ImportError" in done.stderr or "NameError" in done.stderr
    shop.jobs(STEPS)
    done = shop.python(f"{HEAD}\nwith connect() as db:\n    enqueue(db, StepArgs('x'), after=[99])")

    assert "cannot enqueue step: there is no job 99 to come after" in done.stderr
    command = ("jobs", "enqueue", "step", "--args", '{"name": "x"}', "--after", "7")
    assert "there is no job 7 to come after" in shop.run(*command).stderr
    assert states(shop) == []


def test_follow_ups_of_a_killed_worker_are_not_lost(shop):
    shop.jobs(
        STEPS.replace(
            '    if args.name == "bad":\n',
            '    if args.name == "bad" and job.attempt == 1:\n        os.kill(os.getpid(), 9)\n    if False:\n',
        )
    )
    out(shop, "print(enqueue(db, StepArgs('bad'), on_success=StepArgs('next')))")
    worker = shop.work()
    worker.wait(20)
    assert [state for _, state in states(shop)] == ["running", "waiting"]
    shop.work()
    shop.drained(40)

    assert states(shop) == [("bad", "completed"), ("next", "completed")]


def test_dramatiqs_pipelines_and_callbacks_are_follow_ups(shop):
    shop.jobs(STEPS)
    code = """
import dramatiq
from shop.gen.jobs.dramatiq import *
from shop.resources.product.jobs import *
broker = dramatiq.get_broker()
step, later = broker.get_actor("step"), broker.get_actor("later")
dramatiq.pipeline([step.message(StepArgs("a")), later.message(name="b"), step.message(name="c")]).run()
broker.enqueue(step.message_with_options(args=(StepArgs("bad"),), on_success=later, on_failure=later))
step.send(name="alone")
try:
    step.send(nme="x")
except TypeError as error:
    print(error)
"""
    done = shop.python(code)
    assert done.returncode == 0, done.stderr
    assert "do not fit StepArgs" in done.stdout
    shop.work()
    shop.drained()

    found = states(shop)
    assert found[:3] == [("a", "completed"), ("b", "completed"), ("c", "completed")]
    assert found[3] == ("bad", "discarded")
    assert sorted(found[4:6]) == [("bad", "cancelled"), ("bad", "completed")]
    assert found[6:] == [("alone", "completed")]
    assert shop.notes().index("a") < shop.notes().index("later b") < shop.notes().index("c ['b']")


# --- what a review found


def test_a_follower_that_may_never_run_keeps_no_key_from_others(shop):
    shop.jobs(STEPS)
    once = "unique=Unique()"
    out(shop, f"print(enqueue(db, StepArgs('a'), on_failure=Step(StepArgs('alarm'), {once})))")
    own = out(shop, f"print(enqueue(db, StepArgs('alarm'), {once}))")
    shop.work()
    shop.drained()

    assert states(shop).count(("alarm", "completed")) == 1
    assert shop.state(own)[0] == "completed"


def test_a_chain_goes_on_behind_a_job_that_was_there(shop):
    shop.jobs(STEPS)
    there = out(shop, "print(enqueue(db, StepArgs('b'), unique=Unique()))")
    ids = out(
        shop,
        "print(json.dumps(enqueue_chain(db, "
        "[StepArgs('a'), Step(StepArgs('b'), unique=Unique()), StepArgs('c')])))",
    )
    assert ids[1] == there
    assert json.loads(shop.ok("jobs", "show", str(ids[2]), "--json"))["waits_for"] == [there]
    again = out(
        shop,
        "print(json.dumps(enqueue_chain(db, [Step(StepArgs('b'), unique=Unique()), StepArgs('d')])))",
    )
    assert again == [there]
    shop.work()
    shop.drained()
    assert sorted(name for name, _ in states(shop)) == ["a", "b", "c"]


def test_followers_are_written_in_their_order(shop):
    shop.jobs(STEPS)
    followers = ", ".join(f"Step(StepArgs('c{n}'), sequence='s')" for n in range(4))
    out(shop, f"print(enqueue(db, StepArgs('a'), on_success=[{followers}]))")
    shop.work()
    shop.drained()

    assert [note.split()[0] for note in shop.notes()] == ["a", "c0", "c1", "c2", "c3"]


def test_who_is_brought_back_takes_its_place_again(shop):
    shop.jobs(STEPS)
    first = out(shop, "print(enqueue(db, StepArgs('wait'), sequence='s'))")
    second = out(shop, "print(enqueue(db, StepArgs('two'), sequence='s'))")
    bad, good = out(shop, "print(json.dumps(enqueue_chain(db, [StepArgs('x'), StepArgs('y')])))")
    shop.ok("jobs", "cancel", str(second), str(bad))
    assert shop.state(good)[0] == "cancelled"
    shop.ok("jobs", "retry", str(second), str(bad), str(good))

    assert [shop.state(one)[0] for one in (second, bad, good)] == [
        "waiting",
        "available",
        "waiting",
    ]
    shop.work()
    shop.drained()
    assert [shop.state(one)[0] for one in (first, second, bad, good)] == ["completed"] * 4
    assert nothing_waits(shop)


def test_python_and_hooks_name_one_sequence(shop):
    shop.jobs(WORKERS)
    (one,) = records(shop, 1)
    code = (
        "from shop.gen.models.product import *; from shop.gen.actions.product import *; "
        f"one = uuid.UUID('{one}'); ProductActions(db).update(one, ProductUpdate(price=7)); "
        "enqueue(db, SyncProductArgs(one, None)); print(0)"
    )
    out(shop, code)
    args = json.dumps({"resource_id": str(one).upper(), "tenant_id": None})
    shop.ok("jobs", "enqueue", "sync_product", "--args", args)

    found = shop.sql.execute("SELECT metadata->>'sequence', waits FROM forge.jobs").fetchall()
    assert len(found) == 4  # three of sync_product, one of index_product
    assert {name for name, _ in found} == {f"product/{one}"}
    assert sorted(waits for _, waits in found) == [0, 1, 1, 1]


def test_a_failure_that_is_written_while_somebody_comes_behind_it_lets_him_pass(shop):
    failing, behind = psycopg_to(shop), psycopg_to(shop)
    row = (
        "SELECT forge.enqueue('k', '{}', sequence => 's', metadata => '{\"failing\": \"passes\"}')"
    )
    own = shop.sql.execute(row).fetchone()[0]
    shop.sql.execute("UPDATE forge.jobs SET worker_id = 7, attempt = 1 WHERE id = %s", (own,))
    failing.execute("BEGIN")
    failing.execute(
        "SELECT forge.jobs_again(ARRAY[%s]::bigint[], '{1}', '{7}', '{0s}', '{E}', '{m}', '{t}')",
        (own,),
    )
    other = behind.execute(row).fetchone()[0]  # it saw the failure not yet
    failing.execute("COMMIT")
    assert shop.state(other)[0] == "waiting"
    shop.sql.execute("SELECT forge.jobs_release()")

    assert shop.state(other)[0] == "available"
    assert nothing_waits(shop)


def test_an_outcome_waits_for_no_transaction_that_checks_its_constraints_early(shop):
    shop.jobs(STEPS)
    first = out(shop, "print(enqueue(db, StepArgs('one')))")
    early = psycopg_to(shop)
    early.execute("BEGIN")
    early.execute(
        "SELECT forge.enqueue('step', '{\"name\": \"two\"}', after => ARRAY[%s]::bigint[])",
        (first,),
    )
    early.execute("SET CONSTRAINTS ALL IMMEDIATE")
    shop.work()
    shop.until(lambda: shop.state(first)[0] == "completed", 5)
    early.execute("COMMIT")
    shop.drained()
    assert states(shop) == [("one", "completed"), ("two", "completed")]


def test_commits_and_outcomes_of_many_jobs_do_not_lock_each_other_out(shop):
    import threading

    from forgecore_jobs.engine.store import Entry, Look, Settled, Store
    from forgecore_jobs.job import Finished

    store = Store(shop.url, name="test")
    worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
    look = Look(worker=worker, kinds=["k"], max_attempts=25, floors=[], priorities=range(10))
    for _ in range(5):
        write = (
            "SELECT count(*) FROM (SELECT forge.enqueue('k', '{}', sequence => 's' || n) "
            "FROM generate_series(1, 300) AS n) AS written"
        )
        shop.sql.execute(write)
        claims = store.claim(look, {"default": 300})
        assert len(claims) == 300
        writer = psycopg_to(shop)
        writer.execute("BEGIN")
        writer.execute(write)
        thread = threading.Thread(target=writer.commit)
        thread.start()
        done = [Settled(claim=one, outcome=Finished(state="completed")) for one in claims[::-1]]
        assert len(store.settle(done)) == 300
        thread.join(20)
        shop.sql.execute("SELECT forge.jobs_release()")
        assert shop.sql.execute("SELECT FROM forge.jobs WHERE waits > 0").rowcount == 0
        shop.sql.execute("DELETE FROM forge.jobs")
    store.close()


def test_what_was_claimed_runs_though_a_later_claim_fails(shop):
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Store
    from forgecore_jobs.limits import Limit

    own = shop.enqueue("k", queue="default", args="{}", tenant_id=None)
    shop.sql.execute("DROP FUNCTION forge.jobs_claim_limited")
    store = Store(shop.url, name="test")
    worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
    claimer = Claimer(["k"], 25, {"limited": Limit(jobs=1)})

    assert [one.id for one in claimer.claim(store, worker, {"default": 5, "limited": 5})] == [own]
    with pytest.raises(psycopg.errors.UndefinedFunction):
        claimer.claim(store, worker, {"limited": 5})
    store.close()


def test_thousands_that_wait_for_one_job_are_told_in_time(shop):
    first = shop.enqueue("k", queue="default", args="{}", tenant_id=None)
    shop.sql.execute(
        "SELECT count(*) FROM (SELECT forge.enqueue('k', '{}', after => ARRAY[%s]::bigint[]) "
        "FROM generate_series(1, 5000)) AS written",
        (first,),
    )
    shop.sql.execute("SELECT forge.jobs_release()")
    begun = time.monotonic()
    shop.ok("jobs", "cancel", str(first))
    assert shop.sql.execute("SELECT FROM forge.jobs").rowcount == 0
    # A walk over all pairs would take a minute.
    assert time.monotonic() - begun < 20
    assert nothing_waits(shop)
