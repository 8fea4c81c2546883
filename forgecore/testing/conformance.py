"""Conformance: what holds for the output of every plugin, whatever it does."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Final

from attrs import evolve

from forgecore.ir import IR, Resource
from forgecore.testing.project import Built, TemporaryProject
from forgecore.write.format import ruff_program

_DIGEST: Final = """
import hashlib, sys
from pathlib import Path
from forgecore.build import make
from forgecore.cli.project import builtin
texts = make(Path(sys.argv[1]), builtin(), scaffolds=True).texts
print(hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest())
"""


def faults_of(project: TemporaryProject, plugin: str) -> list[str]:
    """Return what is wrong with what a plugin adds to a project, in words; nothing if all is well.

    The project is to use what the plugin offers: what is not rendered is not judged. Builds
    must be the same in every process; ruff and `mypy --strict` must pass on all that is
    generated; files of others may gain lines by the plugin, and lose none.
    """
    built = project.build()
    if not built.is_sound:
        return [f"it does not build:\n{built.text}"]
    project.write()
    return [*_changing(project), *_unclean(project), *_taken(project, built, plugin)]


def _changing(project: TemporaryProject) -> Iterator[str]:
    digests: set[str] = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", _DIGEST, str(project.folder)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        digests.add(done.stdout.strip() or done.stderr)
    if len(digests) > 1:
        yield "builds in two processes differ: something depends on the order of a set"


def _unclean(project: TemporaryProject) -> Iterator[str]:
    gen = project.package / "gen"
    checks = [
        ("ruff check", [ruff_program(), "check", "--isolated", "--no-cache", "--ignore", "E501"]),
        ("ruff format", [ruff_program(), "format", "--check", "--no-cache"]),
    ]
    if importlib.util.find_spec("mypy") is None:
        yield "mypy is not installed, so types were not judged"
    else:
        flags = ["--strict", "--no-incremental", "--cache-dir", os.devnull]
        checks.append(("mypy --strict", [sys.executable, "-m", "mypy", *flags]))
    for what, command in checks:
        done = subprocess.run(
            [*command, str(gen)],
            cwd=project.folder,
            env={**os.environ, "MYPYPATH": str(project.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).replace(f"{project.folder}{os.sep}", "")
            yield f"{what} does not pass:\n{said.strip()}"


def _taken(project: TemporaryProject, built: Built, plugin: str) -> Iterator[str]:
    """Report what the files of others lose by the plugin.

    Lines only where the core and the others see the same schema: a plugin that brings a type of
    field, or changes resources, changes what is made of them.
    """
    alone = project.build(without=[plugin])
    same_schema = _plain(alone.ir) == _plain(built.ir)
    for path, before in alone.files.items():
        if path not in built.files:
            yield f"{path} is not made any more where the plugin is"
        elif same_schema and path.endswith(".py"):
            for line in _lost(before, built.files[path]):
                yield f"{path} loses a line where the plugin is: {line.strip()}"


def _plain(ir: IR | None) -> list[Resource]:
    return [
        evolve(
            resource,
            fields=tuple(evolve(one, plugin_options={}) for one in resource.fields),
            plugin_options={},
        )
        for resource in (ir.resources if ir else ())
    ]


def _lost(before: str, after: str) -> Iterator[str]:
    old, new = (
        # The formatter brings imports into order, and lists into lines, anew.
        [line for line in text.splitlines() if line.strip() and "import" not in line]
        for text in (before, after)
    )
    # A statement's own line may gain parameters at its end.
    words = {word for line in new for word in _words(line)}
    for tag, first, last, _, _ in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag in {"delete", "replace"}:
            yield from (line for line in old[first:last] if not _words(line) <= words)


def _words(line: str) -> set[str]:
    return set(re.findall(r"\w+", line))
