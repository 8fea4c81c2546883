"""Merge: bring what is new in a scaffold into a file that is somebody's by now.

What was scaffolded is remembered as it was, beside the project's files and committed with them:
against it both the user's changes and the schema's are seen.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from forgecore_scaffold.files import Scaffold

FOLDER: Final = ".scaffolded"
"""Below the project: one text for each scaffolded file, as it was written."""
_MARKER: Final = re.compile(r"^(<{7}|>{7}|\|{7}) ", re.MULTILINE)

Outcome = Literal["written", "same", "merged", "conflict", "unknown"]


class NoGitError(Exception):
    """There is no git, which does the merge."""


@frozen
class Pristine:
    """What was scaffolded at a path relative to the project."""

    project: Path

    def read(self, shown: str) -> str | None:
        """Return the text that was scaffolded, or None if nobody remembers."""
        try:
            return self._path(shown).read_text(encoding="utf-8")
        except OSError:
            return None

    def remember(self, shown: str, text: str) -> None:
        """Note what is scaffolded now."""
        if self.read(shown) != text:
            self._path(shown).parent.mkdir(parents=True, exist_ok=True)
            self._path(shown).write_text(text, encoding="utf-8", newline="\n")

    def _path(self, shown: str) -> Path:
        # No Python by its name: neither tools nor imports are to find it.
        return self.project / FOLDER / f"{shown}.txt"


def has_conflict(text: str) -> bool:
    """Return whether a text has the marks of a merge that somebody must end."""
    return _MARKER.search(text) is not None


def merged(scaffold: Scaffold, base: str | None) -> tuple[Outcome, str]:
    """Return what becomes of a scaffold's file: how it went, and its text.

    NoGitError without git.
    """
    current = scaffold.current
    if current is None:
        return "written", scaffold.fresh
    if scaffold.fresh in {current, base}:
        return "same", current
    if base is None:
        return "unknown", current
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name, part) for part in ("yours", "pristine", "fresh")]
        for path, text in zip(paths, (current, base, scaffold.fresh), strict=True):
            path.write_text(text, encoding="utf-8", newline="\n")
        labels = [word for path in paths for word in ("-L", path.name)]
        command = ["git", "merge-file", "-p", "--diff3", *labels, *map(str, paths)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            raise NoGitError("`scaffold --merge` needs git") from None
    text = done.stdout.decode("utf-8")
    if done.returncode == 0:
        return "merged", text
    if not 0 < done.returncode < 128 or not has_conflict(text):  # noqa: PLR2004 -- git's own limit
        raise NoGitError(f"git merge-file failed: {done.stderr.decode('utf-8', 'replace').strip()}")
    return "conflict", text
