"""Which scaffolds there are, and how each stands to the file on disk."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Scaffold:
    """A scaffold: its path relative to the package, its fresh text, and how the disk stands."""

    path: str
    fresh: str
    current: str | None

    @property
    def state(self) -> Literal["missing", "fresh", "edited"]:
        """Whether the file is missing, is as it would be written, or is the user's own."""
        if self.current is None:
            return "missing"
        return "fresh" if self.current == self.fresh else "edited"

    def diff(self, shown: str) -> str:
        """Return a unified diff from the file on disk to the fresh one."""
        before = (self.current or "").splitlines(keepends=True)
        after = self.fresh.splitlines(keepends=True)
        old = "/dev/null" if self.current is None else shown
        return "".join(difflib.unified_diff(before, after, old, f"{shown} (fresh)"))


def scaffolds(texts: Mapping[str, str], package: Path) -> Iterator[Scaffold]:
    """Return every scaffold of a build; what is written, shown or listed comes from here alone."""
    for path, text in sorted(texts.items()):
        target = package / path
        current = target.read_text(encoding="utf-8") if target.is_file() else None
        # A package's docstring is nobody's work: one that is there is left in peace.
        if path.endswith("__init__.py") and current is not None:
            continue
        yield Scaffold(path=path, fresh=text, current=current)


def of_resource(path: str, resource: str) -> bool:
    """Return whether a scaffold belongs to a resource, by the folder that it stands in."""
    parts = path.split("/")
    return len(parts) == 2 or resource in parts  # noqa: PLR2004 -- resources/__init__.py
