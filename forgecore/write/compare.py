"""Compare: how what a build makes stands to what is on disk, file by file."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from forgecore.diagnostics import Diagnostic
from forgecore.source import SourceFile, Span
from forgecore.write.manifest import Lock, digest_of

State = Literal["missing", "stale", "edited", "extra"]
STATES: Final[Mapping[State, str]] = {
    "missing": "is not there",
    "stale": "is not what the schema says now",
    "edited": "was changed by hand",
    "extra": "is of nothing in the schema any more",
}
"""What each state says of a file."""
_CONFLICT: Final = re.compile(rb"^<{7} .*^={7}$.*^>{7} ", re.MULTILINE | re.DOTALL)


@frozen(kw_only=True)
class Difference:
    """A file that is not as it should be; `shown` is its path relative to the project.

    `path` is relative to the package, and None for a file of a package that the project had
    before. `new` is None for what is to go.
    """

    shown: str
    path: str | None
    state: State
    old: bytes | None
    new: bytes | None

    @property
    def is_edited(self) -> bool:
        """Whether somebody's work would be lost."""
        return self.state == "edited"

    def diff(self) -> str:
        """Return a unified diff from the file on disk to what a build writes."""
        old, new = (_lines(text) for text in (self.old, self.new))
        before = "/dev/null" if self.old is None else f"a/{self.shown}"
        after = "/dev/null" if self.new is None else f"b/{self.shown}"
        return "".join(difflib.unified_diff(old, new, before, after))

    def diagnostic(self) -> Diagnostic:
        """Return what stops a build that would lose somebody's work."""
        text = (
            f"{self.shown} was changed by hand: move the change to resources/ or a subclass, "
            "or `forgecore build --force` overwrites it"
        )
        return Diagnostic("edited", Span(SourceFile(self.shown, ""), 1, 1, 2), text)


def differences(
    project: Path,
    package: Path,
    texts: Mapping[str, str],
    lock: Lock,
    kept: Collection[str] = (),
) -> Iterator[Difference]:
    """Give every file that publishing `texts`, by path relative to the package, would change.

    Files that are `kept` stay, and are not looked at.
    """
    for path, text in texts.items():
        target = package / path
        shown = target.relative_to(project).as_posix()
        old, new = content(target), text.encode()
        if old == new:
            continue
        entry = lock.entries.get(shown)
        state: State = "missing" if old is None else "stale"
        is_known = entry is not None and old is not None and entry.digest == digest_of(old)
        is_merged = shown in lock.conflicted or _CONFLICT.search(old or b"")
        if old is not None and not is_known and not is_merged:
            state = "edited"
        yield Difference(shown=shown, path=path, state=state, old=old, new=new)
    prefix = (package / "gen").relative_to(project).as_posix() + "/"
    for shown, entry in lock.entries.items():
        inside = f"gen/{shown.removeprefix(prefix)}" if shown.startswith(prefix) else None
        if entry.kind != "gen" or inside in texts or inside in kept:
            continue
        if (old := content(project / shown)) is None:
            continue
        state = "extra" if entry.digest == digest_of(old) else "edited"
        yield Difference(shown=shown, path=inside, state=state, old=old, new=None)


def head_differences(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Give, in words, what made the last build and what makes this one, where they differ."""
    before, now = (dict(_named(line) for line in lines) for lines in (old, new))
    for what in sorted(before.keys() | now.keys()):
        if before.get(what) != now.get(what):
            was, is_ = before.get(what, "absent"), now.get(what, "absent")
            yield f"{what} was {was} when gen/ was built, and is {is_}"


def content(path: Path) -> bytes | None:
    """Return a file's bytes, or None if there is no file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _named(line: str) -> tuple[str, str]:
    what, _, version = line.rpartition(" ")
    return what, version


def _lines(text: bytes | None) -> list[str]:
    return (text or b"").decode("utf-8", "replace").splitlines(keepends=True)
