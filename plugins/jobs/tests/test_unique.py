"""Jobs that are written once, and hooks that only some updates fire."""

import json
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conftest import Project, Server, copy_project

SCHEMA = """
[resource]
name = "Product"
tenant_scoped = true
soft_delete = true

[fields]
title = { type = "string", required = true }
price = { type = "decimal", precision = 8, scale = 2 }

[relations.parent]
belongs_to = "Product"

[[hooks.after_create]]
kind = "index_product"
unique = {}

[[hooks.after_update]]
kind = "index_product"
unique = {}

[[hooks.after_update]]
kind = "reprice_product"
only_if_changed = ["price"]

[[hooks.after_update]]
kind = "move_product"
only_if_changed = ["title", "parent"]

[[hooks.after_update]]
kind = "digest_tenant"
only_if_changed = ["price"]
unique = { by = ["tenant_id"], period = "1h" }
priority = 3
"""
HEAD = """
import json, uuid
from datetime import *
from decimal import Decimal
from forgecore.runtime import acting, connect
from forgecore_jobs import Unique, enqueue, enqueue_many
from shop.gen.actions.product import *
from shop.gen.models.product import *

tenant = uuid.UUID(int=7)
"""


@pytest.fixture(scope="module")
def ready(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("unique") / "project"
    project = Project(folder, server.database(f"unique_{uuid.uuid4().hex[:8]}"))
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs"]\n')
    project.write("schema/product.toml", SCHEMA)
    project.ok("build")
    for command in ("up", "diff", "up"):
        project.ok("migrate", command)
    assert project.url is not None
    return folder, project.url.rpartition("?")[0].rpartition("/")[2]


class Shop(Project):
    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.sql = psycopg.connect(url, autocommit=True)

    def py(self, code: str) -> object:
        """Run code with a database `db` for a tenant; return what it gives to `out`."""
        body = textwrap.indent(textwrap.dedent(code), "    ")
        done = self.python(
            f"{HEAD}\nout = print\nwith connect() as db, acting(tenant=tenant):\n{body}"
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None

    def kinds(self) -> list[str]:
        rows = self.sql.execute("SELECT kind FROM forge.jobs ORDER BY kind, id").fetchall()
        return [row[0] for row in rows]

    def clear(self) -> None:
        self.sql.execute("DELETE FROM forge.jobs")


@pytest.fixture
def shop(ready: tuple[Path, str], server: Server, tmp_path: Path) -> Iterator[Shop]:
    folder, template = ready
    copy_project(folder, tmp_path / "project")
    name = f"unique_{uuid.uuid4().hex[:12]}"
    made = Shop(tmp_path / "project", server.database(name, template))
    yield made
    made.sql.close()
    server.drop(name)


def unique(shop: Shop, resource: int = 1, **given: object) -> tuple[int, bool]:
    """Take a key by SQL as `enqueue` does, and write the job if it is new."""
    args = {"resource_id": str(uuid.UUID(int=resource)), "tenant_id": None}
    return take(shop.sql, json.dumps(args), **given)


def take(sql: psycopg.Connection, args: str, **given: object) -> tuple[int, bool]:
    more = "".join(f", {name} => %({name})s" for name in given)
    job, is_new = sql.execute(
        "SELECT * FROM forge.jobs_unique(kind => 'k', args => %(a)s::jsonb, queue => 'default'"
        f"{more})".encode(),
        {"a": args, **given},
    ).fetchone()
    if is_new:
        sql.execute("INSERT INTO forge.jobs (id, kind, args) VALUES (%s, 'k', %s)", (job, args))
    return job, is_new


def start(shop: Shop, job: int) -> None:
    shop.sql.execute("UPDATE forge.jobs SET worker_id = 1 WHERE id = %s", (job,))


def test_an_update_fires_only_the_hooks_of_what_it_changed(shop):
    shop.py("""
        actions = ProductActions(db)
        one = actions.create(ProductCreate(title="a", price=Decimal("1.00")))
        actions.update(one.id, ProductUpdate(title="b"))
    """)
    assert shop.kinds() == ["index_product", "move_product"]

    shop.clear()
    shop.py("""
        actions = ProductActions(db)
        one = next(iter(actions.list()))
        actions.update(one.id, ProductUpdate(title="b", price=Decimal("2.00")))
        actions.update(one.id, ProductUpdate(price=None))
        actions.update(one.id, ProductUpdate(price=None))
    """)
    assert shop.kinds() == ["digest_tenant", "index_product", *["reprice_product"] * 2]

    shop.clear()
    shop.py("""
        actions = ProductActions(db)
        one = next(iter(actions.list()))
        other = actions.create(ProductCreate(title="other"))
        actions.update(one.id, ProductUpdate(parent_id=other.id))
    """)
    assert shop.kinds() == [*["index_product"] * 2, "move_product"]


def test_a_restore_has_changed_everything(shop):
    shop.py("""
        actions = ProductActions(db)
        one = actions.create(ProductCreate(title="a"))
        actions.delete(one.id)
        actions.restore(one.id)
    """)

    assert shop.kinds() == ["digest_tenant", "index_product", "move_product", "reprice_product"]


def test_a_rolled_back_update_leaves_no_key(shop):
    shop.py("""
        actions = ProductActions(db)
        one = actions.create(ProductCreate(title="a"))
        try:
            with db.transaction() as tx:
                ProductActions(tx).update(one.id, ProductUpdate(price=Decimal("2.00")))
                raise ValueError
        except ValueError:
            pass
        actions.update(one.id, ProductUpdate(price=Decimal("3.00")))
    """)

    assert shop.kinds() == ["digest_tenant", "index_product", "reprice_product"]
    assert shop.sql.execute(
        "SELECT DISTINCT priority FROM forge.jobs WHERE kind LIKE 'd%'"
    ).fetchall() == [(3,)]


def test_a_conflict_gives_the_other_jobs_id_and_writes_nothing(shop):
    first, second, other = shop.py("""
        args = RepriceProductArgs(resource_id=uuid.UUID(int=1), tenant_id=tenant)
        more = RepriceProductArgs(resource_id=uuid.UUID(int=2), tenant_id=tenant)
        once = Unique(by=("resource_id",))
        out(json.dumps([enqueue(db, args, unique=once), enqueue(db, args, unique=once), enqueue(db, more, unique=once)]))
    """)

    assert first == second != other
    assert len(shop.kinds()) == 2


def test_the_kinds_hook_says_what_is_unique_where_the_call_does_not(shop):
    shop.py("""
        args = DigestTenantArgs(resource_id=uuid.UUID(int=1), tenant_id=tenant)
        assert enqueue(db, args) == enqueue(db, args)
        try:
            enqueue_many(db, [args])
        except Exception as error:
            assert "unique" in str(error), error
        else:
            raise AssertionError
        try:
            enqueue(db, args, unique=Unique(by=("nothing",)))
        except Exception as error:
            assert "`nothing`" in str(error), error
        else:
            raise AssertionError
    """)
    args = json.dumps({"resource_id": str(uuid.UUID(int=9)), "tenant_id": str(uuid.UUID(int=7))})
    by_hand = shop.ok("jobs", "enqueue", "digest_tenant", "--args", args)

    assert by_hand.strip() == str(shop.sql.execute("SELECT id FROM forge.jobs").fetchone()[0])


def test_a_key_is_free_when_its_job_starts_or_ends_as_it_says(shop):
    job, _ = unique(shop)
    assert unique(shop) == (job, False)
    assert unique(shop, until="finished") == (job, False)

    start(shop, job)
    assert unique(shop, until="finished") == (job, False)
    newer, is_new = unique(shop)
    assert is_new
    assert newer != job
    assert unique(shop) == (newer, False)

    shop.clear()
    assert unique(shop, until="finished")[1]


def test_a_period_lasts_whatever_becomes_of_the_job(shop):
    job, _ = unique(shop, period="1 hour")
    shop.clear()
    assert unique(shop, period="1 hour") == (job, False)

    shop.sql.execute("UPDATE forge.job_keys SET expires_at = now() - interval '1 second'")
    assert unique(shop, period="1 hour")[1]


def test_what_is_counted_makes_the_difference(shop):
    assert unique(shop, 1)[1]
    assert unique(shop, 2)[1]
    assert unique(shop, 1, tenant_id=uuid.UUID(int=1))[1]
    assert unique(shop, 1, by_queue=True)[1]
    assert unique(shop, 1, by=["tenant_id"])[1]
    assert not unique(shop, 2, by=["tenant_id"])[1]


def test_the_newer_call_may_change_what_waits(shop):
    job, _ = unique(shop, 1, by=["tenant_id"])
    unique(
        shop,
        2,
        by=["tenant_id"],
        replaced=["args", "run_at", "priority"],
        run_at="2030-01-01Z",
        priority=1,
    )

    row = shop.sql.execute(
        "SELECT id, args ->> 'resource_id', run_at::text LIKE '2030%%', priority FROM forge.jobs"
    )
    assert row.fetchall() == [(job, str(uuid.UUID(int=2)), True, 1)]


def test_the_job_that_answers_starts_after_the_callers_commit(shop):
    from forgecore_jobs.engine.floors import Claimer
    from forgecore_jobs.engine.store import Entry, Store

    job, _ = unique(shop)
    store = Store(shop.url, name="test")
    worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
    args = json.dumps({"resource_id": str(uuid.UUID(int=1)), "tenant_id": None})
    with psycopg.connect(shop.url) as caller:
        assert take(caller, args) == (job, False)
        assert Claimer(["k"], 25).claim(store, worker, {"default": 5}) == []
    claims = Claimer(["k"], 25).claim(store, worker, {"default": 5})
    store.close()

    assert [claim.id for claim in claims] == [job]


def test_of_eight_at_once_one_writes_and_all_get_its_id(shop):
    got: list[tuple[int, bool]] = []
    ready = threading.Barrier(8, timeout=30)

    def race() -> None:
        with psycopg.connect(shop.url) as conn:
            for number in range(25):
                ready.wait()
                got.append((number, *take(conn, json.dumps({"n": number}))))
                conn.commit()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(25):
        of = [one[1:] for one in got if one[0] == number]
        assert len(of) == 8
        assert len({job for job, _ in of}) == 1
        assert sum(is_new for _, is_new in of) == 1
    assert len(shop.kinds()) == 25


def test_who_waits_for_a_key_that_is_rolled_back_takes_it(shop):
    args = json.dumps({"n": 1})
    got: list[tuple[int, bool]] = []
    with psycopg.connect(shop.url) as first, psycopg.connect(shop.url) as second:
        take(first, args)
        waiting = threading.Thread(target=lambda: got.append(take(second, args)))
        waiting.start()
        waiting.join(0.5)
        assert got == []
        first.rollback()
        waiting.join(10)

    assert [is_new for _, is_new in got] == [True]
    assert len(shop.kinds()) == 1


def test_under_repeatable_read_a_race_is_told_and_not_lost(shop):
    args = json.dumps({"n": 1})
    with psycopg.connect(shop.url) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT 1")
        take(shop.sql, args)
        with pytest.raises(psycopg.errors.SerializationFailure):
            take(conn, args)


def test_keys_that_nobody_has_are_forgotten(shop):
    kept, _ = unique(shop, 1)
    unique(shop, 2, period="1 hour")
    gone, _ = unique(shop, 3)
    shop.sql.execute("DELETE FROM forge.jobs WHERE id <> %s", (kept,))
    shop.ok("jobs", "prune")

    keys = {row[0] for row in shop.sql.execute("SELECT job_id FROM forge.job_keys")}
    assert gone not in keys
    assert len(keys) == 2


def test_a_database_without_the_newest_steps_is_told(shop):
    shop.sql.execute("ALTER FUNCTION forge.jobs_unique RENAME TO jobs_other")
    shop.py("""
        from forgecore.runtime import EnqueueError
        for do in (
            lambda: enqueue(db, DigestTenantArgs(resource_id=uuid.UUID(int=1), tenant_id=tenant)),
            lambda: ProductActions(db).create(ProductCreate(title="a")),
        ):
            try:
                do()
            except EnqueueError as error:
                assert "migrate up" in str(error)
            else:
                raise AssertionError
    """)


def test_a_job_that_a_trigger_suppresses_is_not_taken_for_written(shop):
    shop.sql.execute("""
        CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER drop_it BEFORE INSERT ON forge.jobs FOR EACH ROW EXECUTE FUNCTION drop_it();
    """)
    shop.py("""
        from forgecore.runtime import SuppressedError
        try:
            enqueue(db, DigestTenantArgs(resource_id=uuid.UUID(int=1), tenant_id=tenant))
        except SuppressedError:
            pass
        else:
            raise AssertionError
    """)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Unique(until='x')", "'until' must be in"),
        ("Unique(replace=('x',))", "'replace' must be of args, run_at, priority: x"),
        ("Unique(by='resource_id')", "'by' must be a tuple of names"),
        ("Unique(period='1h')", "'period' must be a timedelta"),
        ("{}", "unique takes forgecore_jobs.Unique"),
        ("True", "unique takes forgecore_jobs.Unique"),
    ],
)
def test_a_unique_that_is_none_is_told(shop, given, said):
    shop.py(f"""
        args = DigestTenantArgs(resource_id=uuid.UUID(int=1), tenant_id=tenant)
        try:
            enqueue(db, args, unique={given})
        except (ValueError, TypeError) as error:
            assert {said!r} in str(error), error
        else:
            raise AssertionError
    """)


def test_mistakes_are_told_with_their_place(build, project):
    project.write(
        "schema/product.toml",
        """
[resource]
name = "Product"

[fields]
title = { type = "string" }

[[hooks.after_create]]
kind = "index_product"
only_if_changed = ["title"]

[[hooks.after_update]]
kind = "move_product"
only_if_changed = ["titel"]
unique = { by = ["resource"], period = "0s", until = "never" }
""",
    )
    status, _, errors = build()

    assert status == 1
    for said in (
        "schema/product.toml:10:19",
        "belongs to after_update",
        "schema/product.toml:14:19",
        "did you mean `title`?",
        "no argument `resource`",
        "did you mean `resource_id`?",
        "`period` must be more than nothing",
        '`until` must be one of "started", "finished"',
    ):
        assert said in errors, errors


RACERS = """
import os, sys, time, uuid
from forgecore.runtime import connect
from forgecore_jobs import Unique, enqueue
from shop.gen.actions.product import IndexProductArgs
with connect() as db:
    open(f"ready-{sys.argv[1]}", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.001)
    time.sleep(max(0, float(open("go").read()) - time.time()))
    for number in range(50):
        args = IndexProductArgs(resource_id=uuid.UUID(int=number), tenant_id=uuid.UUID(int=7))
        sys.stdout.write(f"{number} {enqueue(db, args, unique=Unique())}\\n")
"""


def test_of_eight_processes_one_writes_and_all_get_its_id(shop):
    shop.write("racer.py", RACERS)
    racers = [shop.start(sys.executable, "racer.py", str(number)) for number in range(8)]
    deadline = time.monotonic() + 30
    while len(list(shop.folder.glob("ready-*"))) < 8:
        assert time.monotonic() < deadline, shop.log()
        time.sleep(0.05)
    shop.write("go.new", str(time.time() + 0.2))
    (shop.folder / "go.new").rename(shop.folder / "go")
    assert [racer.wait(60) for racer in racers] == [0] * 8, shop.log()

    answers: dict[str, set[str]] = {}
    for line in shop.log().splitlines():
        number, job = line.split()
        answers.setdefault(number, set()).add(job)
    assert len(shop.log().splitlines()) == 8 * 50
    assert [len(jobs) for jobs in answers.values()] == [1] * 50
    assert len(shop.kinds()) == 50
