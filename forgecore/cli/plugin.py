"""`forgecore plugin new`: an installable plugin to begin with, and a test that passes."""

import importlib.resources
from pathlib import Path
from typing import Final

import click

from forgecore import __version__
from forgecore.build import BuildError
from forgecore.cli.project import builtin
from forgecore.diagnostics import Diagnostic
from forgecore.names import fault_of_snake, pascal
from forgecore.plugin.host import installed

_FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "forgecore_{name}/__init__.py": "init.py",
    "forgecore_{name}/plugin.py": "plugin.py",
    "forgecore_{name}/py.typed": "py.typed",
    "forgecore_{name}/templates/fields.py.mako": "fields.py.mako",
    "tests/test_{name}.py": "test.py",
    "tests/golden/gen/{name}/__init__.py": "golden_init.py",
    "tests/golden/gen/{name}/product.py": "golden.py",
}


@click.group()
def plugin() -> None:
    """Write plugins.

    Example: forgecore plugin new audit
    """


@plugin.command()
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
def new(name: str, folder: Path | None) -> None:
    """Write an installable package: entry point, hookimpl, template, and a test that passes.

    Example: forgecore plugin new audit && cd forgecore-audit && pip install -e . && pytest
    """
    if fault := fault_of_snake(name):
        raise BuildError([Diagnostic("bad-name", None, f"the name `{name}` {fault}")])
    if name in {*installed(), *(one.name for one in builtin())}:
        text = f"there is a plugin `{name}` already"
        raise BuildError([Diagnostic("duplicate", None, text)])
    target = folder or Path(f"forgecore-{name.replace('_', '-')}")
    if target.exists() and any(target.iterdir()):
        text = f"{target} is there already, and not empty"
        raise BuildError([Diagnostic("bad-path", None, text)])
    given = {
        "@name@": name,
        "@dashed@": name.replace("_", "-"),
        "@Name@": pascal(name),
        "@version@": __version__,
    }
    sources = importlib.resources.files("forgecore.cli").joinpath("plugin_template")
    for path, source in _FILES.items():
        text = sources.joinpath(f"{source}.txt").read_text(encoding="utf-8")
        for mark, value in given.items():
            text = text.replace(mark, value)
        written = target / path.format(name=name)
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text, encoding="utf-8", newline="\n")
        click.echo(f"wrote {written}")
