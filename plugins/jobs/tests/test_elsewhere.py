"""Jobs that are enqueued on the connections of SQLAlchemy and Django, in their transactions."""

import asyncio
import sqlite3
import uuid
from typing import ClassVar

import attrs
import pytest
import sqlalchemy as sa
from forgecore_jobs import enqueue, enqueue_async, enqueue_many
from forgecore_jobs.unwrap import NoPsycopgError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from forgecore.runtime import EnqueueError


@attrs.frozen
class PingArgs:
    kind: ClassVar[str] = "ping"
    number: int


@attrs.frozen
class RefusedArgs:
    kind: ClassVar[str] = "refused"
    number: int


@pytest.fixture
def here(shop, monkeypatch):
    """This process is one of the project's."""
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(shop.folder))
    monkeypatch.setenv("FORGE_PROJECT_PACKAGE", f"project_{uuid.uuid4().hex[:8]}")
    package = shop.folder / str(__import__("os").environ["FORGE_PROJECT_PACKAGE"])
    (shop.folder / "shop").rename(package)
    for path in package.rglob("*.py"):
        path.write_text(path.read_text().replace("shop.", f"{package.name}."))
    monkeypatch.syspath_prepend(str(shop.folder))
    return shop


def numbers(shop) -> list[int]:
    rows = shop.sql.execute("SELECT (args ->> 'number')::int FROM forge.jobs ORDER BY id")
    return [row[0] for row in rows]


def test_sqlalchemy(here):
    engine = sa.create_engine(here.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as conn:
        enqueue(conn, PingArgs(1))
        conn.commit()
        enqueue(conn, PingArgs(2))
        conn.rollback()
    with engine.begin() as conn:
        enqueue_many(conn, [PingArgs(3), PingArgs(4)])
    with Session(engine) as session:
        enqueue(session, PingArgs(5))
        assert numbers(here) == [1, 3, 4]
        session.commit()
        session.execute(sa.text("SELECT 1"))
        enqueue(session, PingArgs(6))
        session.rollback()
    with pytest.raises(ValueError), Session(engine) as session, session.begin():
        enqueue(session, PingArgs(7))
        raise ValueError
    engine.dispose()

    assert numbers(here) == [1, 3, 4, 5]


def test_sqlalchemy_async(here):
    async def main():
        engine = create_async_engine(here.url.replace("postgresql:", "postgresql+psycopg:"))
        async with engine.connect() as conn:
            await enqueue_async(conn, PingArgs(1))
            await conn.commit()
            await enqueue_async(conn, PingArgs(2))
        async with AsyncSession(engine) as session:
            await enqueue_async(session, PingArgs(3))
            await session.commit()
            await enqueue_async(session, PingArgs(4))
            await session.rollback()
        await engine.dispose()

    asyncio.run(main())

    assert numbers(here) == [1, 3]


def test_django(here):
    import django
    import psycopg
    from django.conf import settings
    from django.db import connections, transaction
    from django.db.backends.postgresql.base import DatabaseWrapper
    from django.db.utils import ConnectionHandler

    given = psycopg.conninfo.conninfo_to_dict(here.url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given["dbname"],
        "USER": given["user"],
        "HOST": given["host"],
        "PORT": given.get("port", ""),
    }
    if not settings.configured:
        settings.configure(DATABASES={"default": database}, USE_TZ=True)
        django.setup()
    connection = ConnectionHandler({"default": database})["default"]
    assert isinstance(connection, DatabaseWrapper)

    enqueue(connection, PingArgs(1))
    connection.set_autocommit(False)
    enqueue(connection, PingArgs(2))
    connection.rollback()
    enqueue_many(connection, [PingArgs(3)])
    connection.commit()
    connection.set_autocommit(True)
    here.sql.execute("ALTER TABLE forge.jobs ADD CHECK (kind <> 'refused')")
    connections["default"] = connection
    with transaction.atomic():
        enqueue(connection, PingArgs(4))
        assert numbers(here) == [1, 3]
    with pytest.raises(ValueError), transaction.atomic():
        enqueue(connection, PingArgs(5))
        raise ValueError
    with transaction.atomic():
        enqueue(connection, PingArgs(6))
        with pytest.raises(EnqueueError):
            enqueue(connection, RefusedArgs(7))
        assert connection.needs_rollback
    connection.close()

    assert numbers(here) == [1, 3, 4]


def test_another_driver_is_named(here):
    engine = sa.create_engine("sqlite://")
    with engine.connect() as conn, pytest.raises(NoPsycopgError, match=r"but sqlite3\.Connection"):
        enqueue(conn, PingArgs(1))
    with pytest.raises(NoPsycopgError, match=r"but sqlite3\.Connection"):
        enqueue(sqlite3.connect(":memory:"), PingArgs(1))  # type: ignore[arg-type]
