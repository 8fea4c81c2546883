"""How the commands reach the database and print what they found."""

import json
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import click
import psycopg
from psycopg import Connection

from forgecore.cli.database import needed_database
from forgecore.cli.project import EnvironmentFailedError
from forgecore.names import near
from forgecore.runtime.settings import project_package
from forgecore_jobs.engine.decode import ArgumentsError, structured
from forgecore_jobs.engine.discover import WorkersError, find_workers
from forgecore_jobs.operate import Row
from forgecore_jobs.worker import Worker


@contextmanager
def connected() -> Generator[Connection[Any]]:
    """Give a connection to the project's database; what is missing there ends the command."""
    with psycopg.connect(needed_database(), autocommit=True, prepare_threshold=None) as conn:
        try:
            yield conn
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedFunction,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.InvalidSchemaName,
        ) as error:
            text = "the jobs' tables are not in the database: run `forgecore migrate up`"
            raise EnvironmentFailedError(text) from error


def project_workers() -> dict[str, Worker[Any]]:
    """Return the project's workers by kind; what is wrong with them ends the command."""
    with workers_judged():
        return find_workers(project_package())


def fitting_worker(kind: str, args: Mapping[str, Any]) -> Worker[Any] | None:
    """Return the worker of a kind; arguments that do not fit it end the command.

    Where there is none a warning says so: another process may have one.
    """
    worker = project_workers().get(kind)
    if worker is None:
        click.echo(f"warning: there is no worker for the kind `{kind}` here", err=True)
    elif fault := fault_of_args(worker, args):
        raise click.ClickException(fault)
    return worker


def fault_of_args(worker: Worker[Any], args: Mapping[str, Any]) -> str | None:
    """Return why arguments, as in JSON, do not fit a worker; None if they do."""
    try:
        structured(worker, dict(args))
    except ArgumentsError as error:
        return f"the arguments do not fit {worker.args.__name__}: {error}"
    return None


def hint(name: str, known: Iterable[str]) -> str:
    """Return what a misspelt name may have meant, to stand behind a sentence; "" for nothing."""
    close = near(name, known)
    return f"; did you mean `{close}`?" if close else ""


@contextmanager
def workers_judged() -> Generator[None]:
    """Say what is wrong with the project's workers, and exit with 1."""
    try:
        yield
    except WorkersError as error:
        click.echo(f"error[jobs/workers]: {error}", err=True)
        sys.exit(1)


def print_rows(rows: Sequence[Row], *, as_json: bool, empty: str) -> None:
    """Print rows as a table with their keys as heads, or as JSON; `empty` if there are none."""
    if as_json:
        click.echo(json_text(rows))
        return
    if not rows:
        if empty:
            click.echo(empty)
        return
    cells = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        click.echo(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )


def cell(value: object) -> str:
    """Return a value as a cell of a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case dict() | list():
            return json.dumps(value, default=str)
        case _:
            return str(value)


def json_text(value: object) -> str:
    """Return a value as JSON; times of day in ISO form, spans in seconds."""
    return json.dumps(value, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
