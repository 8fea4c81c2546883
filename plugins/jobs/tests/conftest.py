"""A project whose workers a test writes, on a fresh database, with a real worker process."""

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import Project, Server

SCHEMA = """
[resource]
name = "Product"
tenant_scoped = true

[fields]
title = { type = "string", required = true }

[[hooks.after_create]]
kind = "notify_new_product"
queue = "notifications"

[[hooks.after_update]]
kind = "reindex_product"
max_attempts = 2
backoff = "constant:1s"
"""
NOTE = """
def note(*parts):
    with open("notes", "a") as file:
        file.write(" ".join(map(str, parts)) + "\\n")
"""
CONFIG = """
[project]
name = "shop"
plugins = ["jobs", "scaffold", "otel"]

[jobs.queues]
notifications = 2
"""


Building = Callable[[str, str], tuple[Path, str]]


@pytest.fixture(scope="session")
def building(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Building:
    """Build a project of a schema and a config: its folder, and a template database for it."""

    def make(schema: str, config: str) -> tuple[Path, str]:
        folder = tmp_path_factory.mktemp("jobs") / "project"
        project = Project(folder, server.database(f"jobs_{uuid.uuid4().hex[:8]}"))
        project.write("forge.toml", config)
        project.write("schema/product.toml", schema)
        project.ok("build")
        project.ok("scaffold")
        project.ok("migrate", "up")
        project.ok("migrate", "diff")
        project.ok("migrate", "up")
        assert project.url is not None
        return folder, project.url.rpartition("?")[0].rpartition("/")[2]

    return make


@pytest.fixture(scope="session")
def ready(building: Building) -> tuple[Path, str]:
    """What most tests begin with."""
    return building(SCHEMA, CONFIG)


class Shop(Project):
    """The project of one test."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.tenant = uuid.uuid4()
        self.sql = psycopg.connect(url, autocommit=True)
        self.workers: list[subprocess.Popen[bytes]] = []

    def jobs(self, text: str) -> None:
        """Write the workers' module; what it needs is imported above it."""
        head = (
            "import asyncio, os, sys, time\n"
            "from datetime import timedelta\n"
            "from forgecore_jobs import *\n"
            "from forgecore.runtime import acting, current_tenant, current_tenant_or_none, connect\n"
            "from shop.gen.actions.product import *\n"
            "from shop.gen.models.product import *\n" + NOTE
        )
        self.write("shop/resources/product/jobs.py", head + text)

    def enqueue(self, kind: str = "notify_new_product", **columns: Any) -> int:
        """Write a job by SQL, as any client may."""
        values: dict[str, Any] = {
            "kind": kind,
            "queue": "notifications" if kind == "notify_new_product" else "default",
            "args": f'{{"resource_id": "{uuid.uuid4()}", "tenant_id": "{self.tenant}"}}',
            "tenant_id": self.tenant,
            **columns,
        }
        marks = ", ".join(f"%({name})s" for name in values)
        statement = f"INSERT INTO forge.jobs ({', '.join(values)}) VALUES ({marks}) RETURNING id"
        row = self.sql.execute(statement.encode(), values).fetchone()
        assert row is not None
        return int(row[0])

    def work(self, **env: str) -> "subprocess.Popen[bytes]":
        """Start `forgecore jobs work`."""
        self.workers.append(self.worker(env=env))
        return self.workers[-1]

    def state(self, job_id: int) -> tuple[Any, ...]:
        """Return state, attempt, failures and the errors' classes of a job."""
        row = self.sql.execute(
            "SELECT state, attempt, failures, errors FROM forge.jobs_all WHERE id = %s", (job_id,)
        ).fetchone()
        assert row is not None
        return (*row[:3], [error["error"] for error in row[3]])

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Wait until something holds; show the worker's log if it never does."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def drained(self, seconds: float = 20) -> None:
        """Wait until no live job is left."""
        self.until(lambda: self.sql.execute("SELECT FROM forge.jobs").rowcount == 0, seconds)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        found = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def notes(self) -> list[str]:
        """Return the lines that workers wrote into `notes`."""
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def shop(ready: tuple[Path, str], server: Server, tmp_path: Path) -> Iterator[Shop]:
    from conftest import copy_project

    folder, template = ready
    copy_project(folder, tmp_path / "project")
    name = f"jobs_{uuid.uuid4().hex[:12]}"
    made = Shop(tmp_path / "project", server.database(name, template))
    yield made
    for worker in made.workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
        worker.wait()
    made.sql.close()
    server.drop(name)


os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
