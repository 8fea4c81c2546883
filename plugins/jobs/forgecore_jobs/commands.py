"""`forgecore jobs`: work, and what an operator sees and does."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString, TypeVar, cast
from uuid import UUID

import click
import psycopg
from psycopg import Connection
from psycopg.types.json import Jsonb

from forgecore.cli.database import needed_database
from forgecore.cli.project import EnvironmentFailedError
from forgecore.runtime import NotMigratedError
from forgecore.runtime.settings import (
    DatabaseSettings,
    parse_duration,
    project_package,
    read_section,
)
from forgecore_jobs import doctor, operate
from forgecore_jobs.engine.discover import make_importable
from forgecore_jobs.engine.logs import configure_logs
from forgecore_jobs.engine.processes import run_processes
from forgecore_jobs.insert import Node, columns_of, fault_of, metadata_of
from forgecore_jobs.operate import STATES, Filter
from forgecore_jobs.output import (
    cell,
    connected,
    fitting_worker,
    hint,
    json_text,
    print_rows,
    project_workers,
    workers_judged,
)
from forgecore_jobs.periodic_commands import periodic
from forgecore_jobs.sequence import Turn
from forgecore_jobs.settings import JobsSettings
from forgecore_jobs.steps import Call
from forgecore_jobs.tables import migrations
from forgecore_jobs.wiring import project_wiring

F = TypeVar("F", bound=Callable[..., Any])
_WIDEST: Final = 40


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def jobs() -> None:
    """Run and manage jobs.

    Example: forgecore jobs work
    """
    make_importable()


@jobs.command("work")
@click.option(
    "--processes", type=click.IntRange(1), default=1, help="How many, each with the limits."
)
def work_command(processes: int) -> None:
    """Run the jobs of every queue until SIGTERM or Ctrl-C; a second one ends the grace.

    Example: forgecore jobs work --processes 2
    """
    # Dramatiq is the worker's alone: every other command starts without it.
    from forgecore_jobs.engine.run import Engine, work  # noqa: PLC0415 -- start-up time

    configure_logs()
    needed_database()
    limits = read_section(JobsSettings, "jobs").limits
    if processes > 1:
        most = sum(limits.values()) * processes
        click.echo(f"{processes} processes, up to {most} jobs at once", err=True)
        sys.exit(run_processes(processes))
    with workers_judged():
        engine = Engine(project_package())
    pool = read_section(DatabaseSettings, "database").pool
    shown = ", ".join(f"{queue} {limit}" for queue, limit in limits.items())
    click.echo(
        f"running up to {sum(limits.values())} jobs at once ({shown}); each may ask for a "
        f"connection, of which the pool has {pool} ([database] pool)",
        err=True,
    )
    try:
        work(engine)
    except NotMigratedError as error:
        raise EnvironmentFailedError(str(error)) from error


def _filtered(command: F) -> F:
    """Add the options that say which jobs are meant."""
    options = (
        click.argument("ids", nargs=-1, type=int),
        click.option("--queue", help="Of this queue."),
        click.option("--kind", help="Of this kind."),
        click.option(
            "--state", "states", multiple=True, type=click.Choice(STATES), help="Repeatable."
        ),
        click.option("--tenant", type=click.UUID, help="Of this tenant."),
        click.option("--older-than", "age", type=_Duration(), help="Enqueued longer ago: 30m, 2d."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@jobs.command("list")
@_filtered
@click.option(
    "--since", type=_Duration(), default="1d", help="Finished ones within it.", show_default=True
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(since: timedelta, limit: int, as_json: bool, **which: Any) -> None:  # noqa: ANN401
    """List jobs, the newest first.

    Example: forgecore jobs list --state discarded --kind send_mail
    """
    with connected() as conn:
        rows = operate.listed(conn, Filter(**which), since, limit)
    print_rows(rows, as_json=as_json, empty="no jobs")


@jobs.command()
@click.argument("job_id", type=int)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(job_id: int, as_json: bool) -> None:
    """Show everything about a job, its errors included.

    Example: forgecore jobs show 42
    """
    with connected() as conn:
        row = operate.shown(conn, job_id)
    if row is None:
        raise click.ClickException(f"there is no job {job_id}")
    if as_json:
        click.echo(json_text(row))
        return
    for name, value in row.items():
        if name != "errors":
            click.echo(f"{name:<13} {cell(value)}")
    for error in row["errors"]:
        click.echo(
            f"\nattempt {error['attempt']} at {error['at']}: {error['error']}: {error['message']}"
        )
        click.echo(error["traceback"].rstrip())


@jobs.command()
@click.argument("kind")
@click.option(
    "--args", "arguments", default="{}", show_default=True, help="The arguments, as JSON."
)
@click.option("--queue", help="Instead of the one of the kind's hook.")
@click.option("--tenant", type=click.UUID, help="Instead of the arguments' tenant_id.")
@click.option(
    "--run-at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="2026-01-31T08:00:00+00:00"
)
@click.option("--priority", type=click.IntRange(0, 9), help="0 is first, 9 last.")
@click.option("--max-attempts", type=click.IntRange(1))
@click.option("--sequence", help="Run behind the last job of this sequence.")
@click.option("--after", type=int, multiple=True, help="Run after this job. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def enqueue(  # noqa: PLR0917 -- click passes options by name
    kind: str,
    arguments: str,
    queue: str | None,
    tenant: UUID | None,
    run_at: datetime | None,
    priority: int | None,
    max_attempts: int | None,
    sequence: str | None,
    after: tuple[int, ...],
    as_json: bool,
) -> None:
    """Write a job by hand and print its id, or that of the job that it is the same as.

    Example: forgecore jobs enqueue send_mail --args '{"user_id": 1}'
    """
    try:
        args: object = json.loads(arguments)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}", param_hint="--args") from error
    if not isinstance(args, dict):
        raise click.BadParameter("must be a JSON object", param_hint="--args")
    values = cast("dict[str, Any]", args)
    if tenant is None and isinstance(values.get("tenant_id"), str):
        tenant = _uuid(values["tenant_id"])
    wiring = project_wiring()
    call = Call(
        queue=queue,
        run_at=run_at,
        priority=priority,
        max_attempts=max_attempts,
        sequence=sequence,
        after=after,
    )
    columns = columns_of(kind, call, wiring)
    columns |= {"args": Jsonb(values), "tenant_id": tenant}
    if fault := _fault_of_job(kind, values, columns) or fault_of(call):
        raise click.ClickException(fault)
    worker = fitting_worker(kind, values)
    turn = wiring.turn_of(kind, values.get("resource_id")) if sequence is None else Turn(sequence)
    version = 1 if worker is None else worker.version
    columns |= {"metadata": Jsonb(metadata_of(version, turn, after))}
    node = Node(values=columns, unique=wiring.unique_of(kind), turn=turn, after=after)
    with connected() as conn:
        try:
            job_id = operate.enqueued(conn, node)
        except psycopg.errors.ForeignKeyViolation as error:
            raise click.ClickException(error.diag.message_primary or str(error)) from error
    click.echo(json_text({"id": job_id}) if as_json else job_id)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _fault_of_job(
    kind: str, args: dict[str, Any], columns: Mapping[LiteralString, object]
) -> str | None:
    """Return what would keep a job that is written by hand from running."""
    if not kind.strip():
        return "the kind is empty"
    limits = read_section(JobsSettings, "jobs").limits
    if (queue := str(columns["queue"])) not in limits:
        return f"queue `{queue}` is not in [jobs.queues]{hint(queue, limits)}"
    if args.get("tenant_id") and str(columns["tenant_id"]) != args["tenant_id"]:
        return "--tenant and the arguments name different tenants"
    return None


def _bulk(command: F) -> F:
    """Add the options of a command that changes many jobs."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        click.option("--dry-run", is_flag=True, help="Only say which jobs are meant."),
        click.option("--all", "everything", is_flag=True, help="Without any filter: every job."),
    ):
        command = option(command)
    return _filtered(command)


def _meant(which: Mapping[str, Any], *, everything: bool) -> Filter:
    made = Filter(**which)
    if made.is_empty and not everything:
        raise click.UsageError("say which jobs: ids, a filter, or --all")
    return made


@jobs.command()
@_bulk
def retry(as_json: bool, dry_run: bool, everything: bool, **which: Any) -> None:  # noqa: ANN401
    """Run jobs now: discarded and cancelled ones come back, waiting ones wait no longer.

    Completed ones run again only with --state completed.

    Example: forgecore jobs retry --state discarded --kind send_mail --dry-run
    """
    with connected() as conn:
        ids = operate.retried(conn, _meant(which, everything=everything), dry_run=dry_run)
    if as_json:
        click.echo(json_text({"retried": ids, "dry_run": dry_run}))
    else:
        click.echo(f"{'would retry' if dry_run else 'retried'} {_jobs(ids)}")
    _stop_if_left(which["ids"], ids, "neither discarded, cancelled nor waiting for a time")


@jobs.command()
@_bulk
def cancel(as_json: bool, dry_run: bool, everything: bool, **which: Any) -> None:  # noqa: ANN401
    """End jobs: waiting ones at once, running ones by their worker within a second.

    Example: forgecore jobs cancel --queue imports --older-than 2d
    """
    with connected() as conn:
        meant = _meant(which, everything=everything)
        waited, running = operate.cancelled(conn, meant, dry_run=dry_run)
    if as_json:
        click.echo(json_text({"cancelled": waited, "asked": running, "dry_run": dry_run}))
        return
    click.echo(f"{'would cancel' if dry_run else 'cancelled'} {_jobs(waited)}")
    if running:
        click.echo(f"{'would ask' if dry_run else 'asked'} {_jobs(running)} to end")
    _stop_if_left(which["ids"], [*waited, *running], "finished, or not there")


def _target(queue: str | None, kind: str | None) -> tuple[str, str]:
    if (queue is None) == (kind is None):
        raise click.UsageError("say one of --queue and --kind")
    return ("queue", queue) if queue is not None else ("kind", str(kind))


def _known(conn: Connection[Any], what: str, name: str) -> None:
    """Stop at a queue or kind that nobody has: a misspelt pause would look like a success."""
    if what == "queue":
        limits = read_section(JobsSettings, "jobs").limits
        known = {*limits, *(row["queue"] for row in operate.queues(conn))}
    else:
        known = {kind for one in operate.workers(conn) for kind in one["kinds"]}
        known |= {*operate.waiting_kinds(conn), *operate.paused_kinds(conn)}
        known |= set(project_workers())
    if name not in known:
        raise click.ClickException(f"there is no {what} `{name}`{hint(name, known)}")


@jobs.command()
@click.option("--queue", help="This queue.")
@click.option("--kind", help="This kind.")
def pause(queue: str | None, kind: str | None) -> None:
    """Let no worker begin jobs of a queue or kind; what runs goes on.

    Example: forgecore jobs pause --queue imports
    """
    what, name = _target(queue, kind)
    with connected() as conn:
        _known(conn, what, name)
        operate.pause(conn, what, name)
    click.echo(f"{what} {name} is paused")


@jobs.command()
@click.option("--queue", help="This queue.")
@click.option("--kind", help="This kind.")
def resume(queue: str | None, kind: str | None) -> None:
    """End a pause.

    Example: forgecore jobs resume --queue imports
    """
    what, name = _target(queue, kind)
    with connected() as conn:
        was = operate.resume(conn, what, name)
    click.echo(f"{what} {name} {'goes on' if was else 'was not paused'}")


@jobs.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def prune(dry_run: bool, as_json: bool) -> None:
    """Drop finished jobs that are older than [jobs.keep] says; workers do so by themselves.

    Example: forgecore jobs prune --dry-run
    """
    with connected() as conn:
        conn.execute("SELECT forge.jobs_partition()")
        rows = operate.pruned(conn, read_section(JobsSettings, "jobs").kept, dry_run=dry_run)
    print_rows(
        [row for row in rows if row["rows"] or not row["part"].endswith("_rest")],
        as_json=as_json,
        empty="nothing is old enough",
    )


@jobs.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(as_json: bool) -> None:
    """Show queues, workers, limits, the table's health and who holds the oldest snapshot.

    Example: forgecore jobs stats --json
    """
    settings = read_section(JobsSettings, "jobs")
    with connected() as conn:
        found = {row["queue"]: row for row in operate.queues(conn)}
        workers = operate.workers(conn)
        table, snapshot = operate.table(conn), operate.oldest_snapshot(conn)
        paused = operate.paused_kinds(conn)
    counts = ("available", "scheduled", "retryable", "running")
    none = {**dict.fromkeys(counts, 0), "oldest_wait_s": None, "paused": False}
    queues = [
        {**none, **found.get(queue, {}), "queue": queue, "limit": settings.limits.get(queue)}
        for queue in sorted({*settings.limits, *found})
    ]
    timeouts = {kind: limit for one in workers for kind, limit in one["timeouts"].items()}
    if as_json:
        whole = {
            "queues": queues,
            "workers": workers,
            "timeouts": timeouts,
            "paused_kinds": paused,
            "table": table,
            "oldest_snapshot": snapshot,
        }
        click.echo(json_text(whole))
        return
    columns = ("queue", "limit", *counts, "oldest_wait_s", "paused")
    print_rows([{name: row[name] for name in columns} for row in queues], as_json=False, empty="")
    click.echo()
    kept = ("id", "host", "pid", "version", "beaten_s_ago", "lost_slots")
    print_rows(
        [{name: row[name] for name in kept} for row in workers],
        as_json=False,
        empty="no worker runs",
    )
    click.echo()
    limits = ", ".join(f"{kind} {limit:g} s" for kind, limit in sorted(timeouts.items()))
    click.echo(f"time limits: {limits or 'none of a worker; a job may have its own'}")
    if paused:
        click.echo(f"paused kinds: {', '.join(paused)}")
    click.echo(
        f"live jobs: {table['bytes'] // 1024} KiB, {table['dead']} dead rows; finished: "
        f"{table['finished_bytes'] // 1024} KiB in {table['partitions']} partitions"
    )
    if snapshot:
        age = f", {snapshot['age_s']:.0f} s" if snapshot["age_s"] is not None else ""
        what = f"{snapshot['what']} {snapshot['name']}{age}, {snapshot['application_name'] or '-'}"
        click.echo(f"oldest snapshot: {what}: {cell(snapshot['query'])}")


@jobs.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def doctor_command(as_json: bool) -> None:
    """Look for what is wrong: tables, partitions, workers, kinds, clocks; exit 1 if anything is.

    Example: forgecore jobs doctor
    """
    workers = project_workers()
    settings = read_section(JobsSettings, "jobs")
    steps = [step.sql for step in migrations()]
    with connected() as conn:
        found = list(doctor.findings(conn, steps, workers, settings))
    if as_json:
        rows = [
            {"check": one.check, "ok": one.ok, "text": one.text, "remedy": one.remedy}
            for one in found
        ]
        click.echo(json_text(rows))
    else:
        for one in found:
            remedy = f" -> {one.remedy}" if one.remedy else ""
            click.echo(f"{'ok   ' if one.ok else 'WRONG'} {one.check:<11} {one.text}{remedy}")
    sys.exit(0 if all(one.ok for one in found) else 1)


def _jobs(ids: Sequence[int]) -> str:
    return f"{len(ids)} job{'s' if len(ids) != 1 else ''}{_shown(ids)}"


def _stop_if_left(asked: Iterable[int], done: Sequence[int], why: str) -> None:
    if left := sorted(set(asked) - set(done)):
        raise click.ClickException(f"not {', '.join(map(str, left))}: {why}")


def _shown(ids: Iterable[int]) -> str:
    text = ", ".join(str(one) for one in ids)
    if len(text) > _WIDEST:
        text = text[:_WIDEST].rpartition(",")[0] + ", ..."
    return f": {text}" if text else ""


jobs.add_command(periodic)
