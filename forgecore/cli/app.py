"""The group of commands, the exit statuses, and how an error becomes text.

Exit status: 0 done, 1 the user's input is at fault, 2 wrong usage, 3 the environment failed.
"""

import importlib
import sys
from pathlib import Path
from typing import Final

import click

from forgecore import __version__
from forgecore.location import choose_project, find_project
from forgecore.remembered import remembered_commands

CORE_COMMANDS: Final = {
    "build": "Build gen/ from the schema.",
    "db": "Start, stop and enter the embedded Postgres server.",
    "migrate": "Bring the database to the schema by plain SQL files.",
}
"""What `--help` says of each command of the core, which is in a module of its name."""


class Commands(click.Group):
    """Loads a command when it is asked for: start-up time is what every command pays."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the core's commands and those of the project's plugins."""
        _ = ctx
        return sorted({*CORE_COMMANDS, *_plugin_helps()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, of what is known of them without importing them."""
        _ = ctx
        helps = {**_plugin_helps(), **CORE_COMMANDS}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(helps.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command of the core, or of a plugin."""
        _ = ctx
        if cmd_name in CORE_COMMANDS:
            module = importlib.import_module(f"forgecore.cli.{cmd_name}")
            command: click.Command = getattr(module, cmd_name)
            return command
        return _plugin_commands().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of `args`; a usage error with a near name if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from forgecore.names import near  # noqa: PLC0415 -- start-up time

            if close := near(args[0], self.list_commands(ctx)):
                text = f"{error.message} Did you mean '{close}'?"
                raise click.UsageError(text, ctx) from None
            if not _plugin_commands():
                text = f"{error.message} There is no forge.toml here or above with a plugin for it."
                raise click.UsageError(text, ctx) from None
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forgecore")
@click.option(
    "--project",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    envvar="FORGE_PROJECT_DIR",
    help="The folder of forge.toml; by default the nearest at or above the working folder.",
)
def app(project: Path | None) -> None:
    """Build a typed Postgres data layer from a schema in TOML.

    Example: forgecore build
    """
    if project is not None:
        # Commands and the runtime that they call find the project in one way.
        choose_project(project)


def run() -> None:
    """Run the command line and exit with its status."""
    sys.exit(main())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its status."""
    try:
        status = app.main(arguments, prog_name="forgecore", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        from forgecore.cli.project import explain  # noqa: PLC0415 -- start-up time

        if (known := explain(error)) is None:
            raise
        text, code = known
        click.echo(text, err=True)
        return code
    return status if isinstance(status, int) else 0


def _plugin_helps() -> dict[str, str]:
    folder = find_project()
    if folder is not None and (known := remembered_commands(folder)) is not None:
        return dict(known)
    return {name: one.get_short_help_str(200) for name, one in _plugin_commands().items()}


def _plugin_commands() -> dict[str, click.Command]:
    from forgecore.cli.project import plugin_commands  # noqa: PLC0415 -- start-up time

    return plugin_commands()
