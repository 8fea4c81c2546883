"""`forgecore build --watch`: a build for whatever is saved, in a process that stays."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from forgecore.build import open_project, package_folder
from forgecore.cli.paint import say_error
from forgecore.cli.project import builtin, explain, plugin_folders
from forgecore.memory import Memory
from forgecore.remembered import formatter_settings, hashed, stats
from forgecore.schema.structure import project_names
from forgecore.times import forget
from forgecore.write.tree import Tree, current_lock, holds

_SHORTEST: Final = 0.02
_SHARE: Final = 30
"""Seconds between two looks: a look takes a thirtieth of the time at most."""
_CODE: Final = 0.5
"""Seconds between two looks at what the process cannot take up while it runs."""


def watch(project: Path, without: Sequence[str], build: Callable[[Memory], int]) -> NoReturn:
    """Build whenever something that a build reads is saved, until Ctrl-C.

    What is imported stays as it was: where forge.toml or code changes, the process begins anew.
    """
    click.echo("watching schema/, forge.toml and the plugins: Ctrl-C ends it", err=True)
    opened = open_project(project, builtin(), without)
    package = package_folder(project, project_names(project, opened.settings)[1])
    inputs = [project / "schema", package / "resources", *formatter_settings(package)]
    tree = Tree(project=project, package=package)
    fixed = [project / "forge.toml", Path(__file__).parents[1], *plugin_folders(opened.host)]
    memory = Memory.load(project)
    stopped: list[int] = []

    def look() -> tuple[str, str]:
        return _signature(inputs), _signature([tree.gen])

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    # Where an exception is thrown away, as in a callback of a weak reference, it is not forgotten.
    signal.signal(signal.SIGINT, stop)
    begun_with, built, looked = _signature(fixed), ("", ""), time.monotonic()
    changed = begun_with
    try:
        while not stopped:
            begun = time.monotonic()
            seen = look()
            pause = max(_SHORTEST, (time.monotonic() - begun) * _SHARE)
            if seen != built:
                # An editor writes in several steps: what is still changing is waited for.
                time.sleep(_SHORTEST / 2)
                if look() != seen:
                    continue
                _build(build, memory)
                # What the build wrote is no news; what was done to it since, or saved, is.
                written = _signature([tree.gen])
                built = seen[0], written if holds(tree, current_lock(tree)) else seen[1]
            elif time.monotonic() - looked > _CODE:
                looked = time.monotonic()
                now = _signature(fixed)
                if now != begun_with and now == changed and fixed[0].is_file():
                    _begin_anew()
                changed = now
            time.sleep(pause)
        raise KeyboardInterrupt
    finally:
        memory.save(project)


def _build(build: Callable[[Memory], int], memory: Memory) -> None:
    begun = time.monotonic()
    forget()
    try:
        build(memory)
    except Exception as error:
        if (known := explain(error)) is None:
            raise
        say_error(known[0])
    click.echo(f"in {(time.monotonic() - begun) * 1e3:.0f} ms", err=True)
    sys.stdout.flush()


def _begin_anew() -> NoReturn:
    click.echo("forge.toml or code has changed: beginning anew", err=True)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "forgecore", *sys.argv[1:]])  # noqa: S606 -- itself


def _signature(paths: Sequence[Path]) -> str:
    return hashed(text for path in paths for text in stats(path))
