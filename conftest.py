"""One Postgres server for the run, and projects to build, migrate and run on it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from forgecore.cli.app import main
from forgecore.database.embedded import Embedded

ROOT = Path(__file__).parent
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Server:
    """A server to make databases on: the embedded one, or FORGE_TEST_DATABASE_URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def database(self, name: str, template: str | None = None) -> str:
        made = f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else "")
        self.drop(name)
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(made.encode())
        return self.of(name)

    def drop(self, name: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            for left in range(50, -1, -1):
                try:
                    conn.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
                except psycopg.errors.InsufficientPrivilege:
                    # An autovacuum is in it: a superuser's process, which soon ends.
                    if not left:
                        raise
                    time.sleep(0.2)
                else:
                    return

    def of(self, name: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}", netloc=parts.netloc)).replace(
            "postgresql:/" + name, "postgresql:///" + name
        )


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this worker process of the run."""
    if url := os.environ.get("FORGE_TEST_DATABASE_URL"):
        yield Server(url)
        return
    with tempfile.TemporaryDirectory(prefix="forge-test-") as folder:
        embedded = Embedded(folder=Path(folder) / ".forge", settings=FAST)
        embedded.start()
        with psycopg.connect(embedded.url("postgres", "postgres"), autocommit=True) as conn:
            conn.execute("ALTER ROLE forge CREATEDB")
        try:
            yield Server(embedded.url())
        finally:
            embedded.stop()


class Project:
    """A project in a folder: write its schema, run commands on it."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    @property
    def environ(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FORGE_")}
        clean["FORGE_PROJECT_DIR"] = str(self.folder)
        clean["PYTHONPATH"] = str(self.folder)
        if self.url:
            clean["FORGE_DATABASE_URL"] = self.url
        return clean

    def run(
        self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "forgecore", *arguments],
            cwd=self.folder,
            env={**self.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(*arguments, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(
        self, code: str, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with the project importable."""
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env={**self.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(
        self, *arguments: str, env: dict[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a command in the background; its log is `worker.log`."""
        log = (self.folder / "worker.log").open("ab")
        return subprocess.Popen(
            list(arguments),
            cwd=self.folder,
            env={**self.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=log,
            stderr=log,
        )

    def worker(self, *options: str, env: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
        return self.start(sys.executable, "-m", "forgecore", "jobs", "work", *options, env=env)

    def log(self) -> str:
        path = self.folder / "worker.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    made = Project(tmp_path / "shop")
    made.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs", "scaffold"]\n')
    return made


@pytest.fixture
def build(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command of the project in this process: status, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))
        status = main(list(arguments or ("build",)))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def copy_project(source: Path, target: Path) -> None:
    """Copy a project without its server."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".forge", "__pycache__"))
