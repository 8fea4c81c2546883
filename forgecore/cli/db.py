"""`forgecore db`: the embedded server."""

import os

import click

from forgecore.cli.database import embedded_server
from forgecore.cli.project import EnvironmentFailedError
from forgecore.database.embedded import EmbeddedError


@click.group()
def db() -> None:
    """Start, stop and enter the embedded Postgres server.

    Example: forgecore db start
    """


@db.command()
def start() -> None:
    """Start the server and print its address; it runs until `db stop`.

    Example: forgecore db start
    """
    try:
        click.echo(embedded_server().start())
    except EmbeddedError as error:
        raise EnvironmentFailedError(str(error)) from error


@db.command()
def stop() -> None:
    """Stop the server.

    Example: forgecore db stop
    """
    try:
        click.echo("stopped" if embedded_server().stop() else "it did not run")
    except EmbeddedError as error:
        raise EnvironmentFailedError(str(error)) from error


@db.command()
@click.option("--superuser", is_flag=True, help="As `postgres` instead of the application's role.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def shell(superuser: bool, arguments: tuple[str, ...]) -> None:
    """Open psql on the server; what follows `--` goes to psql.

    Example: forgecore db shell -- -c 'SELECT 1'
    """
    server = embedded_server()
    try:
        server.start()
        psql = server.tool("psql")
    except EmbeddedError as error:
        raise EnvironmentFailedError(str(error)) from error
    url = server.url("postgres") if superuser else server.url()
    os.execv(psql, [psql, url, *arguments])  # noqa: S606 -- psql takes the terminal over


@db.command()
@click.confirmation_option(prompt="Every table and row of the embedded server goes. Sure?")
def reset() -> None:
    """Throw the server's data away and start anew.

    Example: forgecore db reset --yes
    """
    try:
        click.echo(embedded_server().reset())
    except EmbeddedError as error:
        raise EnvironmentFailedError(str(error)) from error
