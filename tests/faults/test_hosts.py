"""What the machines below do to workers: no connection left, a full disk, a dead server, clocks."""

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from conftest import Project
from forgecore.database.embedded import Embedded

FORGE = """
[project]
name = "shop"
plugins = ["jobs"]

[jobs.queues]
default = 6
"""
SCHEMA = """
[resource]
name = "Product"

[[hooks.after_create]]
kind = "write"

[[hooks.after_update]]
kind = "wait"
"""
WORKERS = """
import time
from forgecore_jobs import Job, worker
from shop.gen.actions.product import WaitArgs, WriteArgs

@worker(WriteArgs)
def write(args: WriteArgs, job: Job) -> None:
    job.tx.execute("INSERT INTO effects (job) VALUES (%s)", (job.id,))

@worker(WaitArgs)
def wait(args: WaitArgs, job: Job) -> None:
    with open("started", "a") as log:
        print(job.id, job.attempt, file=log)
    if job.attempt == 1:
        for _ in range(1400):
            time.sleep(0.01)
    job.tx.execute("INSERT INTO effects (job) VALUES (%s)", (job.id,))
"""
CLOCK = """
import datetime, os, time

shift = float(os.environ.get("SHIFT_S", "0"))
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + shift
time.time_ns = lambda: now_ns() + int(shift * 1e9)


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


if shift:
    datetime.datetime = Shifted
"""


class Host:
    """A project with a server of its own, which may be maltreated."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.project = Project(folder)
        self.project.write("forge.toml", FORGE + more)
        self.project.write("schema/product.toml", SCHEMA)
        self.project.write("shop/resources/product/jobs.py", WORKERS)
        self.project.write("clock/sitecustomize.py", CLOCK)
        self.project.ok("build")
        settings = {"max_connections": "30"}
        self.server = Embedded(folder=folder / ".forge", settings=settings)
        self.url = self.project.url = self.server.start()
        self.project.ok("migrate", "up")
        with self.connected() as sql:
            sql.execute("CREATE TABLE effects (job bigint)")
        self.workers: list[Any] = []

    def connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.url, autocommit=True)

    def work(self, **env: str) -> None:
        self.workers.append(self.project.worker(env=env))
        started = len(self.workers)
        self.until(lambda: self.project.log().count('"worker.started"') == started)

    def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.project.log()
            time.sleep(0.1)

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.project.log().splitlines() if line[:1] == "{"]
        return [line for line in found if line["event"] == event]

    def settled(self, sql: "psycopg.Connection[tuple[Any, ...]]", seconds: float = 30) -> None:
        self.until(lambda: sql.execute("SELECT FROM forge.jobs").rowcount == 0, seconds)

    def pids(self) -> list[int]:
        text = (self.server.folder / "postgres" / "data" / "postmaster.pid").read_text()
        postmaster = psutil.Process(int(text.split()[0]))
        return [postmaster.pid, *(child.pid for child in postmaster.children())]

    def end(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(30)
        self.server.stop()


def enqueue(sql: "psycopg.Connection[tuple[Any, ...]]", kind: str) -> int:
    args = '{"resource_id": "%s", "tenant_id": null}' % uuid.uuid4()  # noqa: UP031
    row = sql.execute(
        "INSERT INTO forge.jobs (kind, args) VALUES (%s, %s) RETURNING id", (kind, args)
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "shop")
    try:
        yield made
    finally:
        made.end()


def test_a_worker_that_gets_no_connection_goes_on_when_it_gets_one(host: Host) -> None:
    host.work()
    with ExitStack() as idle, host.connected() as sql:
        with host.connected() as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'forge' AND pid <> ALL(%s)",
                ([sql.info.backend_pid, other.info.backend_pid],),
            )
        with pytest.raises(psycopg.OperationalError):
            for _ in range(40):
                idle.enter_context(host.connected())
        jobs = [enqueue(sql, "write") for _ in range(20)]
        time.sleep(5)
        assert sql.execute("SELECT FROM effects").rowcount < 20
        idle.close()
        host.settled(sql)

        assert sorted(job for (job,) in sql.execute("SELECT job FROM effects")) == jobs


def test_a_disk_that_is_full_at_commit_loses_and_doubles_nothing(host: Host) -> None:
    with host.connected() as sql:
        # What the server answers to a commit that it has no room for.
        sql.execute("""
            CREATE TABLE full_disk ();
            CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF EXISTS (SELECT FROM full_disk) AND random() < 0.9 THEN
                    RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full';
                END IF;
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON forge.jobs_finished
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_room();
            CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON forge.jobs
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_room();
        """)
        host.work()
        jobs = [enqueue(sql, "write") for _ in range(20)]
        sql.execute("INSERT INTO full_disk DEFAULT VALUES")
        refused = 0
        for _ in range(20):
            try:
                jobs.append(enqueue(sql, "write"))
            except psycopg.errors.DiskFull:
                refused += 1
        time.sleep(3)
        sql.execute("DELETE FROM full_disk")
        sql.execute("UPDATE forge.jobs SET run_at = now() WHERE worker_id IS NULL")
        host.settled(sql)

        assert refused
        assert sorted(job for (job,) in sql.execute("SELECT job FROM effects")) == jobs
        states = sql.execute("SELECT DISTINCT state FROM forge.jobs_finished").fetchall()
        assert states == [("completed",)]


def test_a_process_that_cannot_beat_gives_its_job_up_by_itself(host: Host) -> None:
    host.work()
    with host.connected() as sql:
        job = enqueue(sql, "wait")
        host.until((host.project.folder / "started").exists)
    stopped = host.pids()
    for pid in stopped:
        # A worker of autovacuum may have ended meanwhile.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        host.until(lambda: host.lines("lease.expired"), 20)
        host.until(lambda: host.lines("job.lease_lost"), 5)
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    with host.connected() as sql:
        host.settled(sql)

        assert sql.execute("SELECT job FROM effects").fetchall() == [(job,)]
        assert sql.execute("SELECT state, failures FROM forge.jobs_finished").fetchall() == [
            ("completed", 0)
        ]


def test_workers_whose_clocks_differ_by_hours_take_nothing_from_each_other(host: Host) -> None:
    path = f"{host.project.folder}/clock{os.pathsep}{host.project.folder}"
    with host.connected() as sql:
        for shift in ("-7200", "7200"):
            host.work(PYTHONPATH=path, SHIFT_S=shift)
        jobs = [enqueue(sql, "wait") for _ in range(8)]
        later = sql.execute(
            "INSERT INTO forge.jobs (kind, args, run_at) SELECT kind, args, now() + interval '1 hour'"
            " FROM forge.jobs LIMIT 1 RETURNING id"
        ).fetchone()
        host.until(lambda: sql.execute("SELECT FROM forge.jobs").rowcount == 1, 40)

        assert sorted(job for (job,) in sql.execute("SELECT job FROM effects")) == jobs
        attempts = "SELECT DISTINCT attempt, failures, kills FROM forge.jobs_finished"
        assert sql.execute(attempts).fetchall() == [(1, 0, 0)]
        assert sql.execute("SELECT id, attempt FROM forge.jobs").fetchall() == [(*later, 0)]
    stamps = [line["timestamp"] for line in host.lines("worker.started")]
    assert len({stamp[:13] for stamp in stamps}) == 2, "the clocks were not moved"


EVERY_SECOND = """
[[jobs.periodic]]
name = "each"
kind = "write"
args = { resource_id = "0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e5f", tenant_id = "0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e60" }
cron = "* * * * * *"
catch_up = "all"
"""


def test_each_tick_has_one_job_whoever_dies_at_it(tmp_path: Path) -> None:
    host = Host(tmp_path / "shop", EVERY_SECOND)
    try:
        for _ in range(3):
            host.work()
        for victim in range(2):
            _until_the_next_second()
            os.kill(host.pids()[0], signal.SIGQUIT)  # a crash: nothing is written any more
            host.until(lambda: not host.server.is_running())
            host.server.start()
            time.sleep(2)
            _until_the_next_second()
            host.workers[victim].kill()
            time.sleep(1.5)
        with host.connected() as sql:
            # What the killed ones held comes back after their lease.
            host.until(lambda: _ticks(sql, "WHERE state <> 'completed'") <= 1, 40)
            found = sql.execute(
                "SELECT metadata->>'tick' FROM forge.jobs_all ORDER BY 1"
            ).fetchall()
            effects = sql.execute("SELECT job FROM effects").fetchall()
    finally:
        host.end()

    ticks = [datetime.fromisoformat(tick) for (tick,) in found]
    assert len(ticks) > 8
    assert [later - first for first, later in pairwise(ticks)] == [timedelta(seconds=1)] * (
        len(ticks) - 1
    )
    assert len(effects) == len(set(effects))


def _until_the_next_second() -> None:
    time.sleep(1 - time.time() % 1)


def _ticks(sql: "psycopg.Connection[tuple[Any, ...]]", where: str) -> int:
    row = sql.execute(f"SELECT count(*) FROM forge.jobs_all {where}".encode()).fetchone()
    assert row is not None
    return int(row[0])
