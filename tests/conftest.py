"""The fixture project, built once a run, and a database of it for each test."""

import asyncio
import contextvars
import importlib
import inspect
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import ROOT, Project, Server, copy_project
from forgecore.runtime import Database, acting, connect, connect_async


@pytest.fixture(scope="session")
def built(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The fixture project, built, scaffolded and importable as `shop`."""
    folder = tmp_path_factory.mktemp("fixture") / "shop_project"
    copy_project(ROOT / "tests" / "fixture", folder)
    project = Project(folder)
    project.ok("build")
    project.ok("scaffold")
    sys.path.insert(0, str(folder))
    return project


@pytest.fixture(scope="session")
def template(built: Project, server: Server) -> str:
    """The name of a database that has every table of the fixture project."""
    name = f"template_{uuid.uuid4().hex[:8]}"
    built.url = server.database(name)
    built.ok("migrate", "up")
    built.ok("migrate", "diff")
    built.ok("migrate", "up")
    built.url = None
    return name


@pytest.fixture
def url(server: Server, template: str) -> Iterator[str]:
    """A fresh database of the fixture project."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield server.database(name, template)
    server.drop(name)


@pytest.fixture
def shop(built: Project, url: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The fixture project on a fresh database, in this process and in those that it starts."""
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(built.folder))
    monkeypatch.setenv("FORGE_DATABASE_URL", url)
    return Project(built.folder, url)


@pytest.fixture
def own_shop(built: Project, url: str, tmp_path: Path) -> Project:
    """A copy of the fixture project that a test may change, on a fresh database."""
    copy_project(built.folder, tmp_path / "own")
    return Project(tmp_path / "own", url)


@pytest.fixture
def db(shop: Project) -> Iterator[Database]:
    with connect() as database:
        yield database


@pytest.fixture
def sql(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A plain connection that sees what is committed."""
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def tenant() -> Iterator[uuid.UUID]:
    """The tenant that the test works for."""
    with acting(tenant=uuid.uuid4()) as who:
        assert who.tenant is not None
        yield who.tenant


class Flavour:
    """One of the two flavours: `actions("Product")` has the same methods, called the same way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runner = asyncio.Runner()
        self.db: Any = connect() if name == "sync" else None
        if self.db is None:
            self.db = connect_async()
            self.run(self.db.open())

    def run(self, value: Any) -> Any:
        """Return a value, or wait for it with the caller's tenant."""
        if not inspect.isawaitable(value):
            return value

        async def waiting() -> Any:
            return await value

        return self.runner.run(waiting(), context=contextvars.copy_context())

    def actions(self, module: str, name: str, source: Any = None) -> Any:
        prefix = "" if self.name == "sync" else "Async"
        found = importlib.import_module(f"shop.gen.actions.{module}")
        return _Called(getattr(found, f"{prefix}{name}Actions")(source or self.db), self.run)

    def close(self) -> None:
        self.run(self.db.close())
        self.runner.close()


class _Called:
    def __init__(self, actions: Any, run: Callable[[Any], Any]) -> None:
        self._actions = actions
        self._run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._actions, name)
        return lambda *args, **kwargs: self._run(method(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest, shop: Project) -> Iterator[Flavour]:
    made = Flavour(request.param)
    yield made
    made.close()
