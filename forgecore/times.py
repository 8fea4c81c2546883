"""Where the time of a build goes: by stage, plugin and template."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

What = Literal["stage", "plugin", "template"]
_SPENT: Final[dict[tuple[What, str], float]] = {}
_OPEN: Final[list[str]] = []


@contextmanager
def spent(what: What, name: str) -> Iterator[None]:
    """Count the time of the block; what is nested in it counts for both."""
    begun = time.perf_counter()
    _OPEN.append(f"{what} {name}")
    try:
        yield
    finally:
        _OPEN.pop()
        _SPENT[what, name] = _SPENT.get((what, name), 0.0) + time.perf_counter() - begun


def doing() -> str:
    """Return what is going on: the stage, and what is nested in it."""
    return ", ".join(_OPEN) or "starting"


def forget() -> None:
    """Begin to count anew."""
    _SPENT.clear()


def times() -> list[tuple[What, str, float]]:
    """Return what was counted in this process, in seconds: stages in order, then the dearest."""
    stages = [(what, name, seconds) for (what, name), seconds in _SPENT.items() if what == "stage"]
    others = [(what, name, seconds) for (what, name), seconds in _SPENT.items() if what != "stage"]
    return [*stages, *sorted(others, key=lambda one: (one[0], -one[2], one[1]))]
