"""`forgecore init`: a project that builds, migrates, runs and passes its own test."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from forgecore.build import BuildError
from forgecore.cli.project import builtin
from forgecore.diagnostics import Diagnostic
from forgecore.names import fault_of_snake, snake
from forgecore.plugin.artefacts import Start
from forgecore.plugin.contexts import InitContext
from forgecore.plugin.host import installed, open_host

_CONFIG: Final = """\
#:schema .forge/config.json
[project]
name = "{name}"
plugins = [{plugins}]
"""
_SCHEMA: Final = """\
#:schema ../.forge/schema.json
[resource]
name = "Note"
timestamps = true

[fields]
title = { type = "string", required = true, max_length = 200, sortable = true }
body  = { type = "string", default = "" }
"""
_TEST: Final = """\
\"\"\"A note is written and read; a title that is too long is refused.\"\"\"

from contextlib import suppress

import pytest
from forgecore.runtime import ValidationError, connect

from {name}.gen.actions.note import NoteActions
from {name}.gen.models.note import NoteCreate


class Undo(Exception):
    \"\"\"What a test writes is rolled back.\"\"\"


def test_a_note_is_written_and_read() -> None:
    with connect() as db, suppress(Undo), db.transaction() as tx:
        note = NoteActions(tx).create(NoteCreate(title="First"))

        assert NoteActions(tx).get(note.id) == note
        raise Undo


def test_a_title_has_its_limit() -> None:
    with connect() as db, pytest.raises(ValidationError):
        NoteActions(db).create(NoteCreate(title="x" * 201))
"""
_PYTEST: Final = """\
[tool.pytest.ini_options]
pythonpath = ["."]
"""
_IGNORED: Final = ".forge/\n__pycache__/\n"
_ATTRIBUTES: Final = "{name}/gen/** linguist-generated=true\nforge.lock linguist-generated=true\n"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--name", help="The project and its package; by default the folder's name.")
@click.option("--plugins", help="Comma-separated; by default every installed one.")
def init(folder: Path, name: str | None, plugins: str | None) -> None:
    """Write a project to begin with: a schema, a test, and what git is to leave alone.

    Files that are there already are left as they are; a folder with a forge.toml is refused.

    Example: forgecore init shop && cd shop && forgecore build
    """
    folder = folder.resolve()
    if (folder / "forge.toml").exists():
        text = f"{folder} has a forge.toml already"
        raise BuildError([Diagnostic("bad-path", None, text)])
    available = sorted(installed())
    is_asked = sys.stdin.isatty() and sys.stdout.isatty()
    likely = re.sub(r"[^a-z0-9]+", "_", snake(folder.name)).strip("_") or "app"
    name = name or _asked("The project's name", likely, ask=is_asked)
    if fault := fault_of_snake(name):
        raise BuildError([Diagnostic("bad-name", None, f"the name `{name}` {fault}")])
    given = plugins if plugins is not None else _asked("Plugins", ",".join(available), ask=is_asked)
    wanted = [part.strip() for part in given.split(",") if part.strip()]
    if missing := sorted(set(wanted) - set(available)):
        text = f"plugin `{missing[0]}` is not installed: {', '.join(available) or 'none is'}"
        raise BuildError([Diagnostic("unknown-plugin", None, text)])
    host, failures = open_host(wanted, builtin())
    starts, more = host.call("forgecore_init", InitContext(plugins=host.names, name=name), Start)
    if failures + more:
        raise BuildError(failures + more)
    given_by = [answer.value for answer in starts]
    for path, text in _files(name, wanted, given_by).items():
        _write(folder, path, text)
    where = [] if folder == Path.cwd() else [f"cd {_relative(folder)}"]
    steps = [*where, "forgecore build", *(step for start in given_by for step in start.after_build)]
    steps += ["forgecore migrate up", "forgecore migrate diff", "forgecore migrate up"]
    # The test is the project's: what runs it is nothing that the tool brings.
    steps += [] if find_spec("pytest") else ["python -m pip install pytest"]
    steps += ["python -m pytest", *(step for start in given_by for step in start.at_last)]
    click.echo("next:\n" + "\n".join(f"  {step}" for step in steps))


def _files(name: str, plugins: list[str], starts: list[Start]) -> dict[str, str]:
    quoted = ", ".join(f'"{plugin}"' for plugin in plugins)
    config = _CONFIG.format(name=name, plugins=quoted)
    return {
        "forge.toml": "\n".join([config, *(start.config for start in starts if start.config)]),
        "schema/note.toml": "\n".join([_SCHEMA, *(one.schema for one in starts if one.schema)]),
        "tests/test_note.py": _TEST.format(name=name),
        **{path: text for start in starts for path, text in start.files.items()},
        "pyproject.toml": _PYTEST,
        ".gitignore": _IGNORED,
        ".gitattributes": _ATTRIBUTES.format(name=name),
    }


def _relative(folder: Path) -> str:
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def _asked(question: str, default: str, *, ask: bool) -> str:
    answer: str = click.prompt(question, default=default) if ask else default
    return answer


def _write(folder: Path, path: str, text: str) -> None:
    target = folder / path
    if target.exists():
        click.echo(f"skipped {path}: it exists")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="\n")
    click.echo(f"wrote {path}")
