"""Twenty thousand jobs while workers are killed and stopped, and the server crashes and restarts.

Afterwards every committed job has completed, each once; no rolled-back one has run; what was
written through `job.tx` is there exactly once. `FORGE_SOAK` is how many seconds it goes on.
"""

import contextlib
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from conftest import Project
from forgecore.database.embedded import Embedded

SECONDS = float(os.environ.get("FORGE_SOAK", "60"))
JOBS = int(20_000 * max(1, SECONDS / 60))
CONFIG = """
[project]
name = "shop"
plugins = ["jobs"]

[database]
pool = 8

[jobs]
grace = "5s"

[jobs.queues]
default = 12
"""
SCHEMA = """
[resource]
name = "Product"

[[hooks.after_create]]
kind = "exact"

[[hooks.after_update]]
kind = "plain"

[[hooks.after_delete]]
kind = "exact_async"
"""
WORKERS = """
import random, time
from forgecore_jobs import AsyncJob, Job, worker
from shop.gen.actions.product import ExactArgs, ExactAsyncArgs, PlainArgs
from forgecore.runtime import connect

db = connect().__enter__()

def maybe_fail(job):
    time.sleep(random.uniform(0, 0.01))
    if job.failures == 0 and job.id % 10 == 0:
        raise ValueError("the first time")

@worker(ExactArgs)
def exact(args: ExactArgs, job: Job) -> None:
    job.tx.execute("INSERT INTO exact (job, attempt) VALUES (%s, %s)", (job.id, job.attempt))
    maybe_fail(job)

@worker(ExactAsyncArgs)
async def exact_async(args: ExactAsyncArgs, job: AsyncJob) -> None:
    await job.tx.execute("INSERT INTO exact (job, attempt) VALUES (%s, %s)", (job.id, job.attempt))
    if job.failures == 0 and job.id % 10 == 0:
        raise ValueError("the first time")

@worker(PlainArgs)
def plain(args: PlainArgs, job: Job) -> None:
    with db.transaction() as tx:
        tx.execute("INSERT INTO plain (job, attempt) VALUES (%s, %s)", (job.id, job.attempt))
    maybe_fail(job)
"""
ARGS = '{"resource_id": "%s", "tenant_id": null}' % uuid.uuid4()  # noqa: UP031


class Enqueuer(threading.Thread):
    """Writes jobs in transactions, a fifth of them rolled back; knows what became of each."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.committed: set[int] = set()
        self.rolled_back: set[int] = set()
        self.unsure: set[int] = set()

    def run(self) -> None:
        pace = SECONDS / (JOBS / 40)
        rng = random.Random()
        while len(self.committed) < JOBS:
            written: set[int] = set()
            try:
                with psycopg.connect(self.url) as conn:
                    while len(self.committed) < JOBS:
                        kind = rng.choice(["exact", "plain", "exact_async"])
                        written = {
                            row[0]
                            for row in conn.execute(
                                "INSERT INTO forge.jobs (kind, args, backoff) SELECT %s, %s, 'constant:1s'"
                                " FROM generate_series(1, 40) RETURNING id",
                                (kind, ARGS),
                            )
                        }
                        if rng.random() < 0.2:
                            conn.rollback()
                            self.rolled_back |= written
                        else:
                            conn.commit()
                            self.committed |= written
                        written = set()
                        time.sleep(pace)
            except psycopg.Error:
                # A commit whose answer never came may have been one.
                self.unsure |= written
                time.sleep(0.2)


class Faults:
    """What goes wrong, at random."""

    def __init__(self, project: Project, server: Embedded) -> None:
        self.project, self.server = project, server
        self.told: Counter[str] = Counter()
        self.workers = [project.worker() for _ in range(3)]
        self.rng = random.Random()
        self.left: list[str] = []

    def step(self) -> None:
        if not self.left:
            self.left = ["kill", "kill", "kill", "backends", "restart", "crash", "stop"]
            self.rng.shuffle(self.left)
        what = self.left.pop()
        self.told[what] += 1
        getattr(self, what)()
        for index, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[index] = self.project.worker()

    def kill(self) -> None:
        self.rng.choice(self.workers).kill()
        time.sleep(0.1)

    def stop(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.send_signal(signal.SIGSTOP)
        time.sleep(12)
        worker.send_signal(signal.SIGCONT)

    def backends(self) -> None:
        with contextlib.suppress(psycopg.Error), self.connected() as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND usename = 'forge' AND random() < 0.5"
            )

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def crash(self) -> None:
        pid = int(
            (self.server.folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
        )
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        self.server.start()

    def connected(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.server.url("postgres"), autocommit=True)

    def end(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
            worker.terminate()
            worker.wait(30)


@pytest.mark.timeout(SECONDS * 4 + 240)
def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    project.write("forge.toml", CONFIG)
    project.write("schema/product.toml", SCHEMA)
    project.write("shop/resources/product/jobs.py", WORKERS)
    project.ok("build")
    server = Embedded(folder=project.folder / ".forge")
    url = project.url = server.start()
    try:
        project.ok("migrate", "up")
        with psycopg.connect(url, autocommit=True) as conn:
            for table in ("exact", "plain"):
                conn.execute(f"CREATE TABLE {table} (job bigint, attempt int)")
        faults = Faults(project, server)
        enqueuer = Enqueuer(url)
        enqueuer.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or enqueuer.is_alive():
            time.sleep(faults.rng.uniform(0.5, 2))
            faults.step()
        deadline = time.monotonic() + 120
        with psycopg.connect(url, autocommit=True) as conn:
            while (left := conn.execute("SELECT count(*) FROM forge.jobs").fetchone()) != (0,):
                assert time.monotonic() < deadline, (left, project.log()[-5000:])
                time.sleep(0.5)
            faults.end()
            judge(conn, enqueuer, faults)
    finally:
        server.stop()


def judge(
    conn: "psycopg.Connection[tuple[object, ...]]", enqueuer: Enqueuer, faults: Faults
) -> None:
    finished = conn.execute("SELECT id, state, attempt FROM forge.jobs_finished").fetchall()
    attempts = {job: attempt for job, _, attempt in finished}
    assert len(finished) == len(attempts), "a completion was recorded twice"
    assert {state for _, state, _ in finished} <= {"completed", "discarded"}
    # Discarded is only what killed its worker, as far as one can see, three times.
    killed = {job for job, state, _ in finished if state == "discarded"}
    reasons = conn.execute(
        "SELECT DISTINCT error FROM forge.job_errors WHERE job_id = ANY(%s)"
        " AND attempt = (SELECT max(attempt) FROM forge.job_errors e WHERE e.job_id = job_errors.job_id)",
        (list(killed),),
    ).fetchall()
    assert {reason for (reason,) in reasons} <= {"WorkerKilled"}

    assert enqueuer.committed <= attempts.keys(), "a committed job is gone"
    assert not enqueuer.rolled_back & attempts.keys(), "a rolled-back job ran"
    assert attempts.keys() <= enqueuer.committed | enqueuer.unsure

    completed = attempts.keys() - killed
    exact = Counter(job for (job,) in conn.execute("SELECT job FROM exact"))
    plain = Counter(job for (job,) in conn.execute("SELECT job FROM plain"))
    kinds = {
        row[0]: row[1]
        for row in conn.execute("SELECT id, kind FROM forge.jobs_finished").fetchall()
    }
    of_tx = {job for job in completed if kinds[job] != "plain"}
    assert exact.keys() == of_tx
    assert set(exact.values()) <= {1}, "an effect through job.tx happened twice"
    assert {job for job in completed if kinds[job] == "plain"} <= plain.keys()
    # Each run more has an attempt more.
    assert all(count <= attempts[job] for job, count in plain.items())
    again = sum(plain.values()) - len(plain)
    print(
        f"{len(finished)} jobs, {dict(faults.told)}, {len(killed)} given up, "
        f"{again} effects of {len(plain)} jobs without job.tx happened again"
    )
