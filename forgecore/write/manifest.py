"""forge.lock: one sorted line per file that the tool wrote, with owner and content hash."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from attrs import evolve, field, frozen

HEAD: Final = "# Written by `forgecore build`; after a merge conflict, build again."


_NO_LINES: Final = ("#", "<<<<<<<", "|||||||", "=======", ">>>>>>>")


@frozen
class Entry:
    """A file: where it is (relative to the project), whose it is, and what it holds."""

    path: str
    kind: Literal["gen", "scaffold"]
    owner: str
    contributors: str
    digest: str


@frozen
class Lock:
    """What the tool wrote. An empty lock knows of nothing.

    `conflicted` are files of which a merge left two lines: what they hold is nobody's work.
    `unreadable` is the number of lines that are neither of a file nor marks of a merge.
    """

    head: tuple[str, ...] = ()
    entries: Mapping[str, Entry] = field(factory=dict[str, Entry])
    conflicted: frozenset[str] = frozenset()
    unreadable: int = 0

    @classmethod
    def of(cls, head: Iterable[str], entries: Iterable[Entry]) -> "Lock":
        """Make a lock of its lines."""
        return cls(tuple(head), {entry.path: entry for entry in sorted(entries, key=_path)})

    def text(self) -> str:
        """Return the file's text."""
        lines = [
            " ".join((e.path, e.kind, e.owner, e.contributors or "-", e.digest))
            for e in sorted(self.entries.values(), key=_path)
        ]
        return "\n".join([HEAD, *self.head, *lines]) + "\n"


def read_lock(path: Path) -> Lock:
    """Return the lock; lines that cannot be read, such as those of a conflict, are left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return Lock()
    head: list[str] = []
    entries: list[Entry] = []
    unreadable = 0
    for line in text.splitlines():
        match line.split(" "):
            case [name, ("gen" | "scaffold") as kind, owner, contributors, digest] if _is_inside(
                name
            ):
                given = "" if contributors == "-" else contributors
                entries.append(Entry(name, kind, owner, given, digest))
            case [("tool" | "formatter" | "plugin"), *_]:
                head.append(line)
            case _ if line and not line.startswith(_NO_LINES):
                unreadable += 1
            case _:
                pass
    digests: dict[str, set[str]] = {}
    for entry in entries:
        digests.setdefault(entry.path, set()).add(entry.digest)
    two = frozenset(path for path, found in digests.items() if len(found) > 1)
    return evolve(Lock.of(head, entries), conflicted=two, unreadable=unreadable)


def _is_inside(path: str) -> bool:
    """Whether a path is below the project: else the tool did not write it, whoever says so."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and len(pure.parts) > 1


def _path(entry: Entry) -> str:
    return entry.path


def digest_of(content: bytes) -> str:
    """Return the hash of a file's content as the lock has it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
