"""`forgecore migrate`: from the schema to the database."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import psycopg

from forgecore.build import BuildError, make
from forgecore.cli.database import needed_database
from forgecore.cli.project import builtin, checked_project, project_folder
from forgecore.database import migrate as runner
from forgecore.database.catalogue import read_both
from forgecore.database.diff import difference
from forgecore.database.migrate import (
    MigrationError,
    Step,
    forgotten,
    next_file,
    project_steps,
    states,
    write_file,
)
from forgecore.diagnostics import Diagnostic
from forgecore.plugin import Migration, MigrationsContext
from forgecore.plugin.host import Host


@click.group()
def migrate() -> None:
    """Bring the database to the schema by plain SQL files.

    Example: forgecore migrate diff && forgecore migrate up
    """


@migrate.command()
@click.argument("name", required=False)
def diff(name: str | None) -> None:
    """Write a migration for what is new in the schema.

    Compares the database's catalogue with that of gen/schema.sql, on the same server. The
    database must be at the newest file.

    Example: forgecore migrate diff add_products
    """
    folder = project_folder()
    output = make(folder, builtin())
    steps = all_steps(folder, output.opened.host)
    url = needed_database()
    with psycopg.connect(url, autocommit=True) as conn:
        if pending := [s.step.shown for s in states(conn, steps) if s.applied_at is None]:
            text = f"not applied yet: {', '.join(pending)}; run `forgecore migrate up` first"
            raise _at_fault(text)
        live, wanted = read_both(conn, output.texts["gen/schema.sql"])
    found = difference(live, wanted)
    for table in found.foreign:
        click.echo(f"left alone: the table {table} is in the database and not in the schema")
    if found.unwritable:
        lines = "\n  ".join(found.unwritable)
        path = next_file(folder / "migrations", name or found.title, datetime.now(UTC))
        shown = path.relative_to(folder).as_posix()
        text = f"this cannot be written yet; write the migration by hand, as {shown}:\n  {lines}"
        raise _at_fault(text)
    if not found.sql:
        click.echo("nothing to do")
        return
    title = name or found.title
    path = write_file(folder / "migrations", title, found.sql, datetime.now(UTC))
    click.echo(f"wrote {path.relative_to(folder).as_posix()}")


@migrate.command()
def up() -> None:
    """Apply what has not been applied yet: the plugins' migrations, then the project's.

    Example: forgecore migrate up
    """
    folder = project_folder()
    steps = all_steps(folder, checked_project(folder).host)
    done = 0
    try:
        for step in runner.up(needed_database(), steps):
            click.echo(f"applied {step.shown}")
            done += 1
    except MigrationError as error:
        raise _at_fault(str(error), error) from error
    if not done:
        click.echo("nothing to do")


@migrate.command()
def down() -> None:
    """Undo the newest applied file, by the .down.sql beside it.

    Example: forgecore migrate down
    """
    folder = project_folder()
    steps = all_steps(folder, checked_project(folder).host)
    try:
        step = runner.down(needed_database(), steps, folder / "migrations")
    except MigrationError as error:
        raise _at_fault(str(error), error) from error
    click.echo(f"undid {step.shown}" if step else "nothing to do")


@migrate.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def status(as_json: bool) -> None:
    """List the migrations and when each was applied.

    Example: forgecore migrate status
    """
    folder = project_folder()
    steps = all_steps(folder, checked_project(folder).host)
    with psycopg.connect(needed_database(), autocommit=True) as conn:
        known = states(conn, steps)
        gone = forgotten(conn, steps)
    if as_json:
        rows = [
            {
                "owner": state.step.owner,
                "version": state.step.version,
                "applied_at": state.applied_at.isoformat() if state.applied_at else None,
                "changed": state.changed,
                "missing": False,
            }
            for state in known
        ]
        rows += [
            {
                "owner": owner,
                "version": version,
                "applied_at": at.isoformat(),
                "changed": False,
                "missing": True,
            }
            for owner, version, at in gone
        ]
        click.echo(json.dumps(rows))
        return
    for state in known:
        when = state.applied_at.isoformat(timespec="seconds") if state.applied_at else "pending"
        changed = " CHANGED since" if state.changed else ""
        click.echo(f"{when:<25} {state.step.shown}{changed}")
    for owner, version, at in gone:
        click.echo(f"{at.isoformat(timespec='seconds'):<25} {version} of {owner} MISSING now")
    if not known and not gone:
        click.echo("there are no migrations")


def all_steps(folder: Path, host: Host) -> list[Step]:
    """Return the plugins' migrations, in their order, and then the project's files."""
    answers, failures = host.call(
        "forgecore_migrations", MigrationsContext(plugins=host.names), Migration
    )
    if failures:
        raise BuildError(failures)
    steps = [
        Step(
            owner=answer.plugin.name,
            version=f"{answer.value.number:04}_{answer.value.name}",
            shown=f"{answer.plugin.name}:{answer.value.number:04}_{answer.value.name}",
            text=answer.value.sql,
        )
        for plugin in host.plugins
        for answer in sorted(
            (a for a in answers if a.plugin is plugin), key=lambda a: a.value.number
        )
    ]
    try:
        return [*steps, *project_steps(folder / "migrations", folder)]
    except MigrationError as error:
        raise _at_fault(str(error)) from error


def _at_fault(text: str, error: MigrationError | None = None) -> BuildError:
    return BuildError([Diagnostic("migration", error.span if error else None, text)])
