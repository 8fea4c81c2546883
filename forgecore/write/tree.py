"""Publish a build: the old tree or the new one, never a mixture.

The new gen/ is staged beside the old one and exchanged with it in one step. What the lock
says of the new tree is on disk before that step and takes its place after it, so a build
that died in between is completed, or undone, by the next one.
"""

import ctypes
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from attrs import Factory, field, frozen

from forgecore.diagnostics import Diagnostic
from forgecore.memory import stat_of
from forgecore.private import private_folder
from forgecore.write.compare import content, differences
from forgecore.write.manifest import Lock, digest_of, read_lock

_LOCK: Final = "forge.lock"
_NEXT: Final = "forge.lock.next"
_HALF: Final = "forge.lock.half"
_NEW: Final = ".gen.new"
_OLD: Final = ".gen.old"
_EXCHANGE: Final = 2
_HERE: Final = -100


@frozen(kw_only=True)
class Tree:
    """Where a project's generated files are."""

    project: Path
    package: Path
    _prefix: str = field(
        init=False,
        repr=False,
        default=Factory(
            lambda self: self.package.relative_to(self.project).as_posix(), takes_self=True
        ),
    )

    @property
    def gen(self) -> Path:
        """The folder of generated files."""
        return self.package / "gen"

    def shown(self, path: str) -> str:
        """Return a path relative to the package as the lock has it: relative to the project."""
        return f"{self._prefix}/{path}"


@frozen(kw_only=True)
class Change:
    """What a build does, by path relative to the package."""

    written: tuple[str, ...]
    removed: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()
    """What goes from a package that the project had before, relative to the project."""


@contextmanager
def locked(project: Path) -> Iterator[None]:
    """Keep other builds of this project out for the block."""
    import fcntl  # noqa: PLC0415 -- there is none on Windows, where one build is trusted to be alone

    with (private_folder(project) / "build.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def settle(tree: Tree) -> None:
    """Complete or undo a publication that was cut off."""
    following = tree.project / _NEXT
    if not tree.gen.exists() and (tree.package / _OLD).exists():
        (tree.package / _OLD).rename(tree.gen)
    if following.exists():
        lock = read_lock(following)
        if holds(tree, lock):
            following.replace(tree.project / _LOCK)
        else:
            following.unlink()
    (tree.project / _HALF).unlink(missing_ok=True)
    for name in (_NEW, _OLD):
        shutil.rmtree(tree.package / name, ignore_errors=True)


def not_a_folder(tree: Tree, paths: Iterable[str]) -> list[Diagnostic]:
    """Report a gen, or a folder of `paths` below it, that is a link or a file.

    It is somebody's: what was written there would go to where it leads.
    """
    folders = {"gen"}
    for path in paths:
        parts = path.split("/")
        folders |= {"/".join(parts[:count]) for count in range(1, len(parts))}
    return [
        Diagnostic("bad-path", None, f"{tree.shown(one)} is no folder of its own: move it away")
        for one in sorted(folders)
        if (place := tree.package / one).is_symlink() or (place.exists() and not place.is_dir())
    ]


def unreadable(lock: Lock) -> list[Diagnostic]:
    """Report lines of the lock that say nothing: what they were of is taken for somebody's."""
    if not lock.unreadable:
        return []
    tools = [line.removeprefix("tool ") for line in lock.head if line.startswith("tool ")]
    by = f", written by {tools[0]}" if tools else ""
    text = f"{_LOCK} has {lock.unreadable} lines that cannot be read{by}"
    return [Diagnostic("unreadable", None, f"{text}: take it from git, or build with --force")]


def current_lock(tree: Tree) -> Lock:
    """Return what the last build wrote."""
    return read_lock(tree.project / _LOCK)


def compare(
    tree: Tree, texts: Mapping[str, str], lock: Lock, kept: Collection[str] = ()
) -> tuple[Change, list[Diagnostic]]:
    """Return what publishing `texts` would change, and the files that were edited by hand.

    Files that are `kept` are there as they are to be.
    """
    found = list(differences(tree.project, tree.package, texts, lock, kept))
    change = Change(
        written=tuple(one.path for one in found if one.path and one.new is not None),
        removed=tuple(one.path for one in found if one.path and one.new is None),
        elsewhere=tuple(one.shown for one in found if one.path is None),
    )
    return change, [one.diagnostic() for one in found if one.is_edited]


def publish(
    tree: Tree, texts: Mapping[str, str], change: Change, lock: Lock
) -> dict[str, tuple[int, int, int]]:
    """Put the new tree and its lock in place of the old ones.

    Returns how the files that it wrote are known to be the same, taken before anybody saw them.
    """
    text = lock.text()
    stats: dict[str, tuple[int, int, int]] = {}
    _remove(tree.project, change.elsewhere)
    if not change.written and not change.removed:
        if content(tree.project / _LOCK) != text.encode():
            _replace(tree.project / _LOCK, text)
        return stats
    stage = tree.package / _NEW
    tree.package.mkdir(parents=True, exist_ok=True)
    for folder in _package_folders(tree):
        if not (folder / "__init__.py").exists():
            docstring = f'"""The package {folder.name}."""\n'
            (folder / "__init__.py").write_text(docstring, encoding="utf-8")
    _carry(tree.gen, stage, {*change.written, *change.removed})
    for path in change.written:
        target = stage / path.removeprefix("gen/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(texts[path], encoding="utf-8", newline="\n")
        stats[path] = stat_of(target)
    _replace(tree.project / _NEXT, text)
    _exchange(stage, tree.gen)
    (tree.project / _NEXT).replace(tree.project / _LOCK)
    shutil.rmtree(stage, ignore_errors=True)
    shutil.rmtree(tree.package / _OLD, ignore_errors=True)
    return stats


def _remove(project: Path, paths: Sequence[str]) -> None:
    root = project.resolve()
    for shown in paths:
        # Through a link it would be somebody else's.
        if not (project / shown).parent.resolve().is_relative_to(root):
            continue
        (project / shown).unlink(missing_ok=True)
        for folder in (project / shown).parents:
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            if folder == project or any(folder.iterdir()):
                break
            folder.rmdir()


def _package_folders(tree: Tree) -> Iterator[Path]:
    folder = tree.package
    while folder != tree.project and folder.name != "src":
        yield folder
        folder = folder.parent


def _carry(gen: Path, stage: Path, without: set[str]) -> None:
    """Link what stays into the stage; files that are not ours stay as well."""
    stage.mkdir(parents=True)
    if not gen.is_dir():
        return
    for folder, names, files in os.walk(gen):
        names[:] = [name for name in names if name != "__pycache__"]
        target = stage / Path(folder).relative_to(gen)
        for name in [name for name in names if (Path(folder) / name).is_symlink()]:
            target.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to((Path(folder) / name).readlink())
        if not names and not files:
            target.mkdir(parents=True, exist_ok=True)
        within = (PurePosixPath("gen") / Path(folder).relative_to(gen).as_posix()).as_posix()
        stay = [name for name in files if f"{within}/{name}" not in without]
        if stay:
            target.mkdir(parents=True, exist_ok=True)
        # Thousands of files: paths as text, which os joins twenty times as fast as pathlib.
        for source, place in ((f"{folder}/{name}", f"{target}/{name}") for name in stay):
            try:
                os.link(source, place)
            except OSError:
                shutil.copy2(source, place, follow_symlinks=False)


def _exchange(new: Path, old: Path) -> None:
    if not old.exists():
        new.rename(old)
        return
    if _rename_exchange(new, old):
        return
    # Two renames where the system has no exchange; `settle` undoes the first alone.
    aside = old.with_name(_OLD)
    old.rename(aside)
    new.rename(old)


def _rename_exchange(new: Path, old: Path) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0)


def holds(tree: Tree, lock: Lock) -> bool:
    """Return whether every generated file of the lock is as it was written."""
    return bool(lock.entries) and all(
        (found := content(tree.project / path)) is not None and digest_of(found) == entry.digest
        for path, entry in lock.entries.items()
        if entry.kind == "gen"
    )


def _replace(path: Path, text: str) -> None:
    # A half-written lock must never be taken for one that knows of fewer files.
    following = path.with_name(_HALF)
    following.write_text(text, encoding="utf-8", newline="\n")
    following.replace(path)
