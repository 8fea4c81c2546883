"""`forgecore jobs periodic`: the entries of [[jobs.periodic]], and what became of their ticks."""

from typing import Any

import click
from psycopg import Connection

from forgecore.runtime.settings import read_section
from forgecore_jobs import operate
from forgecore_jobs.engine.ticks import begin_of, write
from forgecore_jobs.output import connected, fitting_worker, hint, print_rows
from forgecore_jobs.periodic import Periodic
from forgecore_jobs.settings import JobsSettings
from forgecore_jobs.wiring import project_wiring


@click.group()
def periodic() -> None:
    """List, run and pause the periodic entries.

    Example: forgecore jobs periodic list
    """


@periodic.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(as_json: bool) -> None:
    """Show the entries of forge.toml and of the database, with their next and last ticks.

    Example: forgecore jobs periodic list
    """
    entries = {entry.name: entry for entry in _entries()}
    with connected() as conn:
        rows = {row["name"]: row for row in operate.periodic(conn)}
    shown = [_row(name, entries.get(name), rows.get(name)) for name in sorted({*entries, *rows})]
    print_rows(shown, as_json=as_json, empty="no periodic entry")


@periodic.command("run")
@click.argument("name")
def run_command(name: str) -> None:
    """Write the job of an entry now, beside its ticks, and print its id.

    Example: forgecore jobs periodic run nightly-report
    """
    entry = _entry(name)
    worker = fitting_worker(entry.kind, entry.args)
    version = 1 if worker is None else worker.version
    with connected() as conn:
        now = operate.server_time(conn)
        click.echo(write(conn, entry, now, project_wiring(), version))


@periodic.command("pause")
@click.argument("name")
def pause_command(name: str) -> None:
    """Give an entry's ticks no jobs until it is resumed.

    Example: forgecore jobs periodic pause nightly-report
    """
    with connected() as conn:
        _told(operate.pause_periodic(conn, name), conn, name)
    click.echo(f"{name} is paused")


@periodic.command("resume")
@click.argument("name")
def resume_command(name: str) -> None:
    """End a pause; ticks that fell into it get no job.

    Example: forgecore jobs periodic resume nightly-report
    """
    entry = _entry(name)
    with connected() as conn:
        upcoming = next(entry.ticks(begin_of(conn, name)))
        _told(operate.resume_periodic(conn, name, upcoming), conn, name)
    click.echo(f"{name} goes on at {upcoming.isoformat()}")


def _entries() -> tuple[Periodic, ...]:
    return read_section(JobsSettings, "jobs").periodic


def _entry(name: str) -> Periodic:
    known = {entry.name: entry for entry in _entries()}
    if name not in known:
        raise click.ClickException(f"[[jobs.periodic]] has no {name!r}{hint(name, known)}")
    return known[name]


def _told(is_there: bool, conn: Connection[Any], name: str) -> None:
    if not is_there:
        if any(row["name"] == name for row in operate.periodic(conn)):
            raise click.ClickException(f"{name} is not paused")
        _entry(name)
        raise click.ClickException(f"no worker has started with {name!r} yet")


def _row(name: str, entry: Periodic | None, row: operate.Row | None) -> operate.Row:
    found = row or {}
    clock = entry.clock if entry else found["clock"]
    return {
        "name": name,
        "kind": entry.kind if entry else found["kind"],
        "clock": clock,
        "state": _state(entry, row),
        "next_at": found.get("next_at"),
        "last_at": found.get("last_at"),
        "last_job": found.get("last_job"),
    }


def _state(entry: Periodic | None, row: operate.Row | None) -> str:
    if row is None:
        return "not entered"
    if row["paused_at"] is not None:
        return "paused"
    if entry is not None and row["definition"] != entry.definition:
        return "of another deployment"
    return "active" if row["is_seen"] else "no worker"
