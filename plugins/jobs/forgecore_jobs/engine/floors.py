"""Floors: where a claim begins to look, so that it walks no dead index entries of old claims.

While some transaction holds an old snapshot, the entries of finished jobs stay in the index,
and a claim that begins at its start walks all of them. What was claimed last is a better
start, if rows below it are looked for as well: those whose transaction committed late, those
that were given back.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from forgecore_jobs.engine.store import Level, Store
from forgecore_jobs.job import Claim

Reach = Literal["newest", "recent", "all"]
"""How far below the newest claim to look: not at all, seconds, or the whole queue."""

_RECENT_S: Final = 2.0
_STEP_S: Final = 0.25
_SWEEP_S: Final = 1.0
_SWEEP_SHARE: Final = 20
"""A sweep may cost a twentieth of the time: where it is dear, it is rarer."""


class _Floor:
    """The newest claimed place of one priority of a queue, now and some seconds ago."""

    def __init__(self) -> None:
        self.newest: tuple[datetime, int] | None = None
        self._past: deque[tuple[float, tuple[datetime, int]]] = deque()

    def raise_to(self, place: tuple[datetime, int], now: float) -> None:
        if self.newest is None or place > self.newest:
            self.newest = place
            if not self._past or now - self._past[-1][0] >= _STEP_S:
                self._past.append((now, place))

    def recent(self, now: float) -> tuple[datetime, int] | None:
        while len(self._past) > 1 and self._past[1][0] <= now - _RECENT_S:
            self._past.popleft()
        if self._past and self._past[0][0] <= now - _RECENT_S:
            return self._past[0][1]
        return None


class Floors:
    """The floors of every queue and priority that this process claims from."""

    def __init__(self) -> None:
        self._floors: dict[tuple[str, int], _Floor] = {}
        self._swept: dict[str, float] = {}
        self._dear_s = 0.0

    def is_sweep_due(self, queues: Iterable[str]) -> bool:
        """Whether it is time to look through the whole of one of these queues."""
        now = time.monotonic()
        every = max(_SWEEP_S, self._dear_s * _SWEEP_SHARE)
        return any(now - self._swept.get(queue, -every) >= every for queue in queues)

    def swept(self, queues: Iterable[str], cost_s: float) -> None:
        """Note that these queues were looked through, and what it cost."""
        now = time.monotonic()
        self._dear_s = cost_s
        for queue in queues:
            self._swept[queue] = now

    def levels(self, reach: Mapping[str, Reach]) -> list[Level]:
        """Return where to begin, for the priorities of these queues that have a floor."""
        now = time.monotonic()
        found: list[Level] = []
        for (queue, priority), floor in self._floors.items():
            far = reach.get(queue, "all")
            place = floor.newest if far == "newest" else floor.recent(now)
            if far != "all" and place is not None:
                found.append(Level(queue, priority, *place))
        return found

    def claimed(self, claims: Sequence[Claim]) -> None:
        """Note what was claimed."""
        now = time.monotonic()
        newest: dict[tuple[str, int], tuple[datetime, int]] = {}
        for claim in claims:
            place = (claim.run_at, claim.id)
            level = (claim.queue, claim.priority)
            if level not in newest or place > newest[level]:
                newest[level] = place
        for level, place in newest.items():
            self._floors.setdefault(level, _Floor()).raise_to(place, now)


class Claimer:
    """Claims jobs of several queues in one statement, from as high a floor as is safe."""

    def __init__(self, kinds: Sequence[str], max_attempts: int) -> None:
        self._kinds = list(kinds)
        self._max_attempts = max_attempts
        self._floors = Floors()
        self._behind: set[str] = set()

    @property
    def behind(self) -> frozenset[str]:
        """The queues where more waited at the last claim than was asked for."""
        return frozenset(self._behind)

    def claim(self, store: Store, worker: int, wanted: Mapping[str, int]) -> list[Claim]:
        """Take up to so many jobs of each queue.

        Where more waits than can run, what committed late has time until the next sweep; where
        a queue comes to its end, it is looked for at once.
        """
        if self._floors.is_sweep_due(wanted):
            return self._claim(store, worker, wanted, dict.fromkeys(wanted, "all"))
        behind = self._behind & wanted.keys()
        reach: dict[str, Reach] = {
            queue: "newest" if queue in behind else "recent" for queue in wanted
        }
        found = self._claim(store, worker, wanted, reach)
        if ended := behind - self._behind:
            taken = Counter(claim.queue for claim in found)
            rest = {queue: wanted[queue] - taken[queue] for queue in ended}
            found += self._claim(store, worker, rest, dict.fromkeys(rest, "recent"))
        return found

    def _claim(
        self, store: Store, worker: int, wanted: Mapping[str, int], reach: Mapping[str, Reach]
    ) -> list[Claim]:
        start = time.monotonic()
        levels = self._floors.levels(reach)
        found = store.claim(worker, wanted, self._kinds, self._max_attempts, levels)
        if "all" in reach.values():
            self._floors.swept(wanted, time.monotonic() - start)
        self._floors.claimed(found)
        taken = Counter(claim.queue for claim in found)
        for queue, most in wanted.items():
            if taken[queue] < most:
                self._behind.discard(queue)
            else:
                self._behind.add(queue)
        return found
