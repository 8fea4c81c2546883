"""Floors: where a claim begins to look, so that it walks no dead index entries of old claims.

While some transaction holds an old snapshot, the entries of finished jobs stay in the index,
and a claim that begins at its start walks all of them. What was claimed last is a better
start, if rows below it are looked for as well: those whose transaction committed late, those
that were given back.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from typing import Final, Literal

import psycopg

from forgecore_jobs.engine.store import Level, Look, Store, say
from forgecore_jobs.job import Claim
from forgecore_jobs.limits import Limit

Reach = Literal["newest", "recent", "all"]
"""How far below the newest claim to look: not at all, seconds, or the whole queue."""

_RECENT_S: Final = 2.0
_STEP_S: Final = 0.25
_SWEEP_S: Final = 1.0
_SWEEP_SHARE: Final = 20
"""A sweep may cost a twentieth of the time: where it is dear, it is rarer."""
_BEST_FIRST: Final = range(10)
_TURN_JOBS: Final = 20
_TURN_S: Final = 1.0
_REST_S: Final = 0.01
_LONGEST_REST_S: Final = 0.25


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


class Turns:
    """Which priority of a queue is looked at first, so that none waits for ever behind a better.

    Nearly always the best. But where a queue is never empty of better jobs, one of twenty jobs
    that a process starts, and one a second at most, is the first of the next priority in turn.
    """

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        self._last: dict[str, float] = {}
        self._turn: dict[str, int] = {}

    def due(self, queues: Iterable[str]) -> str | None:
        """Return a queue where a worse priority is to have its turn; it has had it then."""
        now = time.monotonic()
        for queue in queues:
            if self._since.get(queue, 0) >= _TURN_JOBS - 1 and (
                now - self._last.get(queue, 0) >= _TURN_S
            ):
                self._since[queue] = 0
                self._last[queue] = now
                return queue
        return None

    def order(self, queue: str) -> list[int]:
        """Return the priorities with the next one in turn first, then the worst to the best."""
        turn = self._turn[queue] = self._turn.get(queue, 0) % 9 + 1
        return [turn, *(level for level in range(9, -1, -1) if level != turn)]

    def claimed(self, counts: Mapping[str, int]) -> None:
        """Count what was claimed of each queue."""
        for queue, count in counts.items():
            self._since[queue] = self._since.get(queue, 0) + count


class _Rests:
    """Limited queues in which the last look found nothing: not looked at again at once."""

    def __init__(self) -> None:
        self._pauses: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def is_over(self, queue: str) -> bool:
        return time.monotonic() >= self._until.get(queue, 0)

    def begin(self, queue: str) -> None:
        pause = min(self._pauses.get(queue, _REST_S / 2) * 2, _LONGEST_REST_S)
        self._pauses[queue] = pause
        self._until[queue] = time.monotonic() + pause

    def end(self, queue: str) -> None:
        self._pauses.pop(queue, None)
        self._until.pop(queue, None)


class Claimer:
    """Claims jobs of several queues, from as high a floor as is safe, and within their limits."""

    def __init__(
        self,
        kinds: Sequence[str],
        max_attempts: int,
        limits: Mapping[str, Limit] | None = None,
    ) -> None:
        self._kinds = list(kinds)
        self._max_attempts = max_attempts
        self._limits = limits or {}
        self._floors = Floors()
        self._turns = Turns()
        self._rests = _Rests()
        self._behind: set[str] = set()

    @property
    def behind(self) -> frozenset[str]:
        """The queues where more waited at the last claim than was asked for."""
        return frozenset(self._behind)

    def freed(self, queue: str) -> bool:
        """Note that a job of a queue has ended; whether its limits may allow another now."""
        if queue not in self._limits:
            return False
        self._rests.end(queue)
        return True

    def claim(self, store: Store, worker: int, wanted: Mapping[str, int]) -> list[Claim]:
        """Take up to so many jobs of each queue.

        Where more waits than can run, what committed late has time until the next sweep; where
        a queue comes to its end, it is looked for at once.
        """
        if not self._limits:
            return self._claim_free(store, worker, wanted)
        free = {queue: most for queue, most in wanted.items() if queue not in self._limits}
        found = self._claim_free(store, worker, free) if free else []
        for queue in wanted.keys() & self._limits.keys():
            claim = partial(self._claim_limited, store, worker, queue, wanted[queue])
            if self._rests.is_over(queue) and not _added(found, claim):
                break
        return found

    def _claim_free(self, store: Store, worker: int, wanted: Mapping[str, int]) -> list[Claim]:
        first: list[Claim] = []
        behind = self._behind & wanted.keys()
        if behind and (queue := self._turns.due(behind)) is not None:
            look = self._look(worker, [], self._turns.order(queue))
            first = store.claim(look, {queue: 1})
            wanted = {
                name: most - (len(first) if name == queue else 0) for name, most in wanted.items()
            }
        _added(first, lambda: self._claim_in_reach(store, worker, wanted, behind))
        return first

    def _claim_in_reach(
        self, store: Store, worker: int, wanted: Mapping[str, int], behind: AbstractSet[str]
    ) -> list[Claim]:
        if self._floors.is_sweep_due(wanted):
            return self._claim(store, worker, wanted, dict.fromkeys(wanted, "all"))
        reach: dict[str, Reach] = {
            queue: "newest" if queue in behind else "recent" for queue in wanted
        }
        found = self._claim(store, worker, wanted, reach)
        if ended := behind - self._behind:
            taken = Counter(claim.queue for claim in found)
            rest = {queue: wanted[queue] - taken[queue] for queue in ended}
            _added(found, lambda: self._claim(store, worker, rest, dict.fromkeys(rest, "recent")))
        return found

    def _claim(
        self, store: Store, worker: int, wanted: Mapping[str, int], reach: Mapping[str, Reach]
    ) -> list[Claim]:
        start = time.monotonic()
        look = self._look(worker, self._floors.levels(reach), _BEST_FIRST)
        found = store.claim(look, wanted)
        if "all" in reach.values():
            self._floors.swept(wanted, time.monotonic() - start)
        self._floors.claimed(found)
        taken = Counter(claim.queue for claim in found)
        self._turns.claimed(taken)
        for queue, most in wanted.items():
            if taken[queue] < most:
                self._behind.discard(queue)
            else:
                self._behind.add(queue)
        return found

    def _claim_limited(self, store: Store, worker: int, queue: str, most: int) -> list[Claim]:
        """Claim from a queue with limits.

        It is never behind: the limit may be what keeps the rest, and only time or the end of a
        job brings more.
        """
        is_turn = self._turns.due([queue]) is not None
        order = self._turns.order(queue) if is_turn else _BEST_FIRST
        look = self._look(worker, [], order)
        found = store.claim_limited(look, queue, 1 if is_turn else most, self._limits[queue])
        self._turns.claimed({queue: len(found)})
        if found:
            self._rests.end(queue)
        elif not is_turn:
            self._rests.begin(queue)
        return found

    def _look(self, worker: int, floors: Sequence[Level], order: Sequence[int]) -> Look:
        return Look(
            worker=worker,
            kinds=self._kinds,
            max_attempts=self._max_attempts,
            floors=floors,
            priorities=order,
        )


def _added(found: list[Claim], claim: Callable[[], list[Claim]]) -> bool:
    """Add what another claim takes; False if it fails, and what was taken before is to run."""
    try:
        found += claim()
    except psycopg.Error as error:
        if not found:
            raise
        say("warning", "claims.failed", error=str(error).strip())
        return False
    return True
