"""Golden files: what a build made once, and somebody read, compared with what it makes now."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

UPDATE: Final = "FORGE_UPDATE"
"""The environment variable that, set to anything, rewrites golden files instead."""


def assert_golden(files: Mapping[str, str], folder: Path) -> None:
    """Raise AssertionError, with a diff, unless `folder` holds exactly these files.

    With FORGE_UPDATE set the folder is rewritten instead: read what changed before you commit.
    """
    found = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in (sorted(folder.rglob("*")) if folder.is_dir() else ())
        if path.is_file()
    }
    if found == dict(files):
        return
    if os.environ.get(UPDATE):
        for path in found.keys() - files.keys():
            (folder / path).unlink()
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="\n")
        return
    diffs = [
        "".join(
            difflib.unified_diff(
                found.get(path, "").splitlines(keepends=True),
                files.get(path, "").splitlines(keepends=True),
                f"golden/{path}",
                f"built/{path}",
            )
        )
        for path in sorted(found.keys() | files.keys())
    ]
    text = "".join(diffs)
    raise AssertionError(f"not as in {folder}; {UPDATE}=1 rewrites it:\n{text}")
