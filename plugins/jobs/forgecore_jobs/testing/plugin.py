"""The fixtures of pytest."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from forgecore.runtime import Database, connect
from forgecore_jobs.engine.discover import make_importable
from forgecore_jobs.testing import database
from forgecore_jobs.testing.clock import Clock
from forgecore_jobs.testing.factories import build
from forgecore_jobs.testing.jobs import Jobs


def pytest_configure() -> None:
    """Let tests import the project, however pytest was started."""
    make_importable()


@pytest.fixture(scope="session")
def forge_template() -> Generator[tuple[str, str]]:
    """Make a database that has every migration; give its server's address and its name."""
    server = database.server_url()
    with database.template(server) as name:
        yield server, name


@pytest.fixture
def database_url(forge_template: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a database of the test's own; FORGE_DATABASE_URL says its address as well."""
    with database.copy(*forge_template) as url:
        monkeypatch.setenv("FORGE_DATABASE_URL", url)
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:  # noqa: ARG001 -- the environment says it
    """Connect to the test's database."""
    with connect() as connected:
        yield connected


@pytest.fixture
def jobs(db: Database) -> Jobs:
    """Look at the jobs of the test's database, and run them."""
    return Jobs(db)


@pytest.fixture
def clock(database_url: str) -> Clock:
    """Set the clock of the test's database."""
    return Clock(database_url)


@pytest.fixture
def make() -> Callable[..., Any]:
    """Make an input of a resource: `make(ProductCreate, title="Lamp")`."""
    return build
