"""Backoffs: how long a job waits before it is tried again."""

import random
from datetime import timedelta
from typing import Final

from attrs import frozen

from forgecore.runtime.settings import parse_duration

RIVER: Final = "river"
_JITTER: Final = 0.1
_EXPONENT: Final = 4


@frozen
class Backoff:
    """A curve: `river` grows with the fourth power of the failures, the others by `step`."""

    shape: str
    step: timedelta = timedelta(seconds=1)

    @classmethod
    def parse(cls, text: str) -> "Backoff":
        """Read "river", "constant:30s" or "linear:30s"; ValueError says what is possible."""
        shape, colon, step = text.partition(":")
        if shape == RIVER and not colon:
            return cls(RIVER)
        if shape in {"constant", "linear"} and colon:
            return cls(shape, parse_duration(step))
        raise ValueError('must be "river", or like "constant:30s" or "linear:30s"')

    def delay(self, failures: int) -> timedelta:
        """Return the wait after so many failures, a tenth up or down so that herds spread."""
        factor = {RIVER: failures**_EXPONENT, "constant": 1, "linear": failures}[self.shape]
        return self.step * factor * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
