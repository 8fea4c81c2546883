"""Databases of tests: a template with every migration, and a copy of it for each test."""

import os
import subprocess
import sys
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, LiteralString
from urllib.parse import SplitResult, urlsplit

import psycopg
from psycopg import sql

from forgecore.cli.database import embedded_server
from forgecore.location import find_project
from forgecore.runtime.settings import DatabaseSettings, read_section
from forgecore_jobs.testing.clock import PATH, install

VARIABLE: Final = "FORGE_TEST_DATABASE_URL"


class NoTestDatabaseError(Exception):
    """There is no server that tests may make databases on."""


def server_url() -> str:
    """Return the address of a role that may make databases.

    It is FORGE_TEST_DATABASE_URL, or the project's embedded server, which is started.
    """
    if find_project() is None:
        raise NoTestDatabaseError("there is no forge.toml here or above")
    if url := os.environ.get(VARIABLE):
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.Error as error:
            raise NoTestDatabaseError(f"{VARIABLE}: {str(error).strip()}") from error
        return url
    if read_section(DatabaseSettings, "database").url != "embedded":
        text = f"[database] url is a server's: tests make databases where {VARIABLE} says"
        raise NoTestDatabaseError(text)
    server = embedded_server()
    server.start()
    with psycopg.connect(server.url("postgres", "postgres"), autocommit=True) as conn:
        conn.execute("ALTER ROLE forge CREATEDB")
    return server.url()


@contextmanager
def template(server: str) -> Generator[str]:
    """Make a database with every migration of the project; drop it at the end."""
    name = f"forge_test_{uuid.uuid4().hex[:12]}"
    url = _made(server, name)
    try:
        install(url)
        done = subprocess.run(
            [sys.executable, "-m", "forgecore", "migrate", "up"],
            env={**os.environ, "FORGE_DATABASE_URL": with_clock(url)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NoTestDatabaseError(f"forgecore migrate up: {done.stdout}{done.stderr}")
        yield name
    finally:
        _dropped(server, name)


@contextmanager
def copy(server: str, of: str) -> Generator[str]:
    """Make a copy of a template and give its address; drop it at the end."""
    name = f"{of}_{uuid.uuid4().hex[:12]}"
    url = _made(server, name, of)
    try:
        yield with_clock(url)
    finally:
        _dropped(server, name)


def with_clock(url: str) -> str:
    """Return an address whose sessions find the test's clock."""
    parts = urlsplit(url)
    option = f"options=-c%20search_path%3D{PATH.replace(' ', '').replace(',', '%2C')}"
    query = f"{parts.query}&{option}" if parts.query else option
    return _joined(parts._replace(query=query))


def _made(server: str, name: str, of: str | None = None) -> str:
    text: LiteralString = "CREATE DATABASE {} TEMPLATE {}" if of else "CREATE DATABASE {}"
    names = [sql.Identifier(one) for one in (name, of) if one]
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL(text).format(*names))
    return _joined(urlsplit(server)._replace(path=f"/{name}"))


def _dropped(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def _joined(parts: SplitResult) -> str:
    # urllib's own drops the slashes of an address without a host.
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"
