"""Clock: the time of a test's database, which stands still where the test says."""

from datetime import datetime, timedelta
from typing import Final, LiteralString

import psycopg

SCHEMA: Final = "forge_clock"
PATH: Final = f"public, {SCHEMA}, pg_catalog"
"""The search path by which a test's sessions find its clock."""
_FUNCTIONS: Final = ("now", "transaction_timestamp", "statement_timestamp", "clock_timestamp")


def install(url: str) -> None:
    """Put functions of the test's clock before Postgres's own, before anything else is made."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {SCHEMA}")
        conn.execute(f"CREATE TABLE {SCHEMA}.frozen (at timestamptz NOT NULL)")
        for name in _FUNCTIONS:
            text: LiteralString = f"""
                CREATE FUNCTION {SCHEMA}.{name}() RETURNS timestamptz LANGUAGE sql STABLE AS
                'SELECT coalesce((SELECT at FROM {SCHEMA}.frozen), pg_catalog.{name}())'"""  # noqa: S608 -- names of this module
            conn.execute(text)


class Clock:
    """The database's time in a test. It runs until `freeze`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def now(self) -> datetime:
        """Return the time of the database."""
        with self._connected() as conn:
            moment: datetime = conn.execute("SELECT now()").fetchall()[0][0]
            return moment

    def freeze(self, at: datetime | None = None) -> datetime:
        """Let time stand still, at a moment with a time zone or now; return it."""
        moment = at or self.now()
        if not isinstance(moment, datetime) or moment.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError("freeze takes a datetime with a time zone: datetime(..., tzinfo=UTC)")
        with self._connected() as conn:
            conn.execute("DELETE FROM forge_clock.frozen")
            conn.execute("INSERT INTO forge_clock.frozen (at) VALUES (%s)", (moment,))
        return moment

    def move(self, by: timedelta) -> datetime:
        """Let time stand still so much later than it is; return the moment."""
        return self.freeze(self.now() + by)

    def run(self) -> None:
        """Let time go on, as it is outside."""
        with self._connected() as conn:
            conn.execute("DELETE FROM forge_clock.frozen")

    def _connected(self) -> "psycopg.Connection[tuple[datetime]]":
        return psycopg.connect(self._url, autocommit=True)
