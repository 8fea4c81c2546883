"""`forgecore jobs`."""

import sys

import click

from forgecore.cli.database import needed_database
from forgecore.cli.project import EnvironmentFailedError
from forgecore.runtime import NotMigratedError
from forgecore.runtime.settings import DatabaseSettings, project_package, read_section
from forgecore_jobs.engine.discover import WorkersError
from forgecore_jobs.engine.logs import configure_logs
from forgecore_jobs.engine.run import Engine, work


@click.group()
def jobs() -> None:
    """Run and manage jobs.

    Example: forgecore jobs work
    """


@jobs.command("work")
def work_command() -> None:
    """Run the jobs of every queue until SIGTERM or Ctrl-C.

    Example: forgecore jobs work
    """
    configure_logs()
    needed_database()
    try:
        engine = Engine(project_package())
    except WorkersError as error:
        click.echo(f"error[jobs/workers]: {error}", err=True)
        sys.exit(1)
    limits = engine.settings.limits
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
