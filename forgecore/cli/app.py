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
    "completion": "Print the script that completes forgecore in a shell.",
    "db": "Start, stop and enter the embedded Postgres server.",
    "diff": "Compare the schema with the one of a git revision; exit 1 if something breaks.",
    "explain": "Say what made a line of gen/, or what a line of the schema makes.",
    "graph": "Print the resources and what leads from one to another, for Mermaid.",
    "init": "Write a project to begin with: a schema, a test, and what git is to leave alone.",
    "ir": "Print the schema with every default filled in, the same bytes for the same schema.",
    "migrate": "Bring the database to the schema by plain SQL files.",
    "plugin": "Write plugins.",
    "plugins": "List the plugins: what brings them, what they answer, what they gave.",
    "why": "Say who makes a file, from which template, and which fragments are in it.",
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
        if find_project() is None:
            formatter.write_paragraph()
            formatter.write_text("In a project, its plugins' commands are here as well.")

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


def _version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    if "--json" in sys.argv:
        import json  # noqa: PLC0415 -- start-up time
        import platform  # noqa: PLC0415

        told = {"forgecore": __version__, "python": platform.python_version()}
        click.echo(json.dumps(told))
    else:
        click.echo(f"forgecore, version {__version__}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    callback=_version,
    expose_value=False,
    help="Show the version and exit; as JSON with --json behind it.",
)
@click.option("--json", is_flag=True, hidden=True, expose_value=False)
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
        from forgecore.cli.paint import say_error  # noqa: PLC0415 -- as above

        text, code = known
        say_error(text)
        return code
    return status if isinstance(status, int) else 0


def _plugin_helps() -> dict[str, str]:
    folder = find_project()
    if folder is not None and (known := remembered_commands(folder)) is not None:
        return dict(known)
    return {name: one.get_short_help_str(200) for name, one in _plugin_commands().items()}


def _plugin_commands() -> dict[str, click.Command]:
    if find_project() is None:
        return {}
    from forgecore.cli.project import plugin_commands  # noqa: PLC0415 -- start-up time

    return plugin_commands(frozenset(CORE_COMMANDS))
