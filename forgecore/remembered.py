"""Remembered: what the last build found, as long as nothing that it read or wrote has changed.

This is asked before anything else is imported, so that a build with nothing to do, and a list
of commands, cost little more than Python's own start.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

_BUILD: Final = "build.json"
_COMMANDS: Final = "commands.json"
_FORMATTER_FILES: Final = ("pyproject.toml", "ruff.toml", ".ruff.toml")
_EXTENDS: Final = re.compile(r"^\s*extend\s*=\s*[\"'](.+?)[\"']", re.MULTILINE)
_OWN: Final = Path(__file__).parent


class Inputs:
    """What a build is about to read. What changes from here on, it may not have seen."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.schema = _schema_digest(project)
        # The clock of a file system may be a tick behind.
        self._begun_ns = time.time_ns() - 20_000_000

    def are_as_before(self, folders: Iterable[Path]) -> bool:
        """Whether nothing of it, nor below these folders, was changed since."""
        return self.schema == _schema_digest(self.project) and all(
            _newest(folder) < self._begun_ns for folder in folders
        )


def remember_build(
    inputs: Inputs, package: Path, plugins: Iterable[Path], said: Mapping[str, object]
) -> None:
    """Note what a build that has just ended found; `plugins` are the folders of their code."""
    folders = sorted({str(folder) for folder in plugins})
    if not inputs.are_as_before([package / "resources", *map(Path, folders)]):
        return
    given: dict[str, Any] = {"package": str(package), "folders": folders, "said": dict(said)}
    given["inputs"] = _inputs_of_build(inputs.project, given, inputs.schema)
    _write(inputs.project, _BUILD, given)


def remembered_build(project: Path) -> Mapping[str, Any] | None:
    """Return what the last build said, or None if it may not be what the next one would say."""
    known = _read(project, _BUILD)
    if known is None or known.get("inputs") != _inputs_of_build(
        project, known, _schema_digest(project)
    ):
        return None
    return cast("Mapping[str, Any]", known.get("said"))


def remember_commands(project: Path, plugins: Iterable[Path], helps: Mapping[str, str]) -> None:
    """Note the commands of the project's plugins, with what `--help` says of each."""
    folders = sorted({str(folder) for folder in plugins})
    given: dict[str, Any] = {"folders": folders, "helps": dict(helps)}
    given["inputs"] = _inputs_of_commands(project, folders)
    _write(project, _COMMANDS, given)


def remembered_commands(project: Path) -> Mapping[str, str] | None:
    """Return the commands of the project's plugins, or None if they may be others by now."""
    known = _read(project, _COMMANDS)
    if known is None or known.get("inputs") != _inputs_of_commands(project, known["folders"]):
        return None
    return cast("Mapping[str, str]", known["helps"])


def _inputs_of_build(project: Path, known: Mapping[str, Any], schema: str) -> str:
    package = Path(known["package"])
    parts = [
        *_of_code(project, known["folders"]),
        *of_environment(),
        schema,
        *_contents([project / "forge.lock"]),
        # What editors go by is made anew when somebody has removed it.
        *stats(project / ".forge" / "schema.json"),
        *stats(project / ".forge" / "config.json"),
        *_contents(formatter_settings(package)),
        # What stands under resources/ is read by checks; gen/ must be as it was written.
        *stats(package),
    ]
    return hashed([str(project), *parts])


def _inputs_of_commands(project: Path, folders: Iterable[str]) -> str:
    parts = [*_of_code(project, folders), *_contents([project / "forge.toml"])]
    return hashed([str(project), *parts])


def _of_code(project: Path, folders: Iterable[str]) -> Iterator[str]:
    yield from of_installation(project)
    for folder in (str(_OWN), *folders):
        yield from stats(Path(folder))


def of_installation(project: Path) -> Iterator[str]:
    """Give the Python, and when something was installed or removed last."""
    yield sys.version
    # The first is where the command stands; what is installed, upgraded or removed changes the
    # folder that it stands in.
    for entry in sys.path[1:]:
        yield f"{entry} {_changed(Path(entry)) if entry != str(project) else 0}"


def _schema_digest(project: Path) -> str:
    """Return a digest of forge.toml and the files of the schema."""
    return hashed(_of_schema(project))


def formatter_settings(package: Path) -> list[Path]:
    """Return the files that ruff may take its settings for a package from, that exist or not."""
    paths = [folder / name for folder in (package, *package.parents) for name in _FORMATTER_FILES]
    for path in paths:
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        for named in _EXTENDS.findall(text):
            # The list grows while it is walked: a file may extend another one, and that a third.
            further = path.parent / Path(named).expanduser()
            paths += [further] if further not in paths else []
    return paths


def _of_schema(project: Path) -> Iterator[str]:
    yield from _contents([project / "forge.toml"])
    yield from _contents(sorted((project / "schema").rglob("*.toml"), key=str))


def of_environment() -> Iterator[str]:
    """Give the variables that act on the project."""
    for name, value in sorted(os.environ.items()):
        if name.startswith("FORGE_"):
            yield f"{name}={value}"


def _contents(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            yield f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        except OSError:
            yield f"{path} -"


def stats(folder: Path) -> Iterator[str]:
    """Give every file below a folder with its size and its time of change."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except NotADirectoryError:
        # A plugin may be a module that is no package.
        yield f"{folder} {folder.stat().st_size} {_changed(folder)}"
        return
    except OSError:
        yield f"{folder} -"
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from stats(Path(entry.path))
        elif (found := _stat_of(entry)) is not None:
            yield f"{entry.path} {found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _newest(folder: Path) -> int:
    """Return when something below a folder, or the folder itself, was changed last."""
    newest = _changed(folder)
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return newest
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            newest = max(newest, _newest(Path(entry.path)) if entry.name != "__pycache__" else 0)
        elif (found := _stat_of(entry)) is not None:
            newest = max(newest, found.st_mtime_ns)
    return newest


def _stat_of(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        # An editor's own file, that was there a moment ago.
        return None


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def hashed(parts: Iterable[str]) -> str:
    """Return one digest of all parts."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return whole.hexdigest()


def _read(project: Path, name: str) -> dict[str, Any] | None:
    return read_cached(project / ".forge" / "cache" / name)


def read_cached(path: Path) -> dict[str, Any] | None:
    """Return the JSON that was written, or None if it is not there or is damaged."""
    try:
        found: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _write(project: Path, name: str, given: Mapping[str, Any]) -> None:
    write_cached(project / ".forge" / "cache" / name, json.dumps(given).encode())


def write_cached(path: Path, data: bytes) -> None:
    """Write something that can be found out anew; where it cannot be written, it will be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        following = path.with_name(f"{path.name}.{os.getpid()}")
        following.write_bytes(data)
        following.replace(path)
    except OSError:
        return
