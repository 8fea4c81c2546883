"""What the commands share: the project, its plugins' commands, errors as text."""

from functools import lru_cache
from pathlib import Path
from typing import Final

import click
import psycopg

import forgecore.data
from forgecore.build import BuildError, Opened, Output, builtin_plugin, open_project
from forgecore.cli.paint import say_error
from forgecore.diagnostics import Diagnostic, errors
from forgecore.location import find_project
from forgecore.plugin.contexts import CommandsContext
from forgecore.plugin.host import Host, Plugin
from forgecore.remembered import remember_commands
from forgecore.runtime.errors import (
    DatabaseUnavailableError,
    ForgeError,
    SettingsError,
)

INPUT: Final = 1
ENVIRONMENT: Final = 3


class EnvironmentFailedError(Exception):
    """The environment (a server, a broker, the machine) does not let a command do its work."""


def builtin() -> tuple[Plugin, ...]:
    """Return the plugins that are part of the tool: its own generator."""
    return (builtin_plugin("data", forgecore.data),)


def project_folder() -> Path:
    """Return the folder of forge.toml; BuildError if there is none."""
    folder = find_project()
    if folder is None or not (folder / "forge.toml").is_file():
        where = folder or Path.cwd()
        text = f"there is no forge.toml in {where} or above"
        raise BuildError([Diagnostic("no-project", None, text)])
    return folder


def checked_project(folder: Path) -> Opened:
    """Return the project with its plugins; BuildError if forge.toml or the environment is wrong."""
    opened = open_project(folder, builtin())
    if errors(opened.diagnostics):
        raise BuildError(opened.diagnostics)
    return opened


@lru_cache(maxsize=1)
def plugin_commands(core: frozenset[str]) -> dict[str, click.Command]:
    """Return the commands of the project's plugins, but for names that are in `core`."""
    folder = find_project()
    if folder is None or not (folder / "forge.toml").is_file():
        return {}
    opened = open_project(folder, builtin())
    if not opened.complete:
        show(errors(opened.diagnostics))
        return {}
    context = CommandsContext(plugins=opened.host.names, project=folder)
    answers, failures = opened.host.call("forgecore_commands", context, click.Command)
    show(failures)
    found: dict[str, click.Command] = {}
    owners = dict.fromkeys(core, "the core")
    for answer in answers:
        name = answer.value.name or ""
        if owner := owners.get(name):
            text = f"the command `{name}` is declared by {owner} and by {answer.plugin.label}"
            show([Diagnostic("duplicate", None, text)])
            continue
        owners[name] = answer.plugin.label
        found[name] = answer.value
    if not failures:
        helps = {name: command.get_short_help_str(200) for name, command in found.items()}
        remember_commands(folder, plugin_folders(opened.host), helps)
    return found


def plugin_folders(host: Host) -> list[Path]:
    """Return the folders of the plugins' packages: what a build depends on beside the project."""
    return [plugin.folder for plugin in host.plugins]


def shown_path(output: Output, file: Path) -> str:
    """Return the path as the lock has it, of one below the working folder or the project."""
    project = output.tree.project.resolve()
    for base in (Path.cwd(), project, output.tree.package.resolve()):
        whole = (base / file).resolve()
        if whole.is_relative_to(project) and whole.exists():
            return whole.relative_to(project).as_posix()
    return file.as_posix()


def show(diagnostics: list[Diagnostic]) -> None:
    """Print diagnostics to stderr."""
    for diagnostic in diagnostics:
        say_error(diagnostic.render())


def explain(error: Exception) -> tuple[str, int] | None:
    """Return an error's text and the exit status, or None for what should not have happened."""
    match error:
        case BuildError():
            count = len(errors(error.diagnostics))
            shown = "\n".join(diagnostic.render() for diagnostic in error.diagnostics)
            return f"{shown}\n{count} error{'s' if count > 1 else ''}", INPUT
        case EnvironmentFailedError() | DatabaseUnavailableError():
            return f"error: {error}", ENVIRONMENT
        case SettingsError():
            return f"error[environment]: {error}", INPUT
        case ForgeError():
            return f"error[{error.code}]: {error}", INPUT
        case OSError():
            return f"error: {error}", ENVIRONMENT
        case psycopg.OperationalError():
            return f"error: the database does not answer: {str(error).strip()}", ENVIRONMENT
        case psycopg.Error():
            return f"error: the database refuses: {str(error).strip()}", ENVIRONMENT
        case _:
            return None
