"""Sequence: jobs that run one at a time, in the order of their commits."""

from typing import Literal

from attrs import frozen

Failing = Literal["blocks", "passes"]
"""Whether those behind a job that fails wait for its next attempts, or go on without it."""

LONGEST = 500
"""Characters of a sequence's name."""


@frozen
class Turn:
    """A job's place behind the last one of a sequence."""

    name: str
    failing: Failing = "blocks"

    def metadata(self) -> dict[str, str]:
        """Return what the job's metadata says of it: what it needs when the job fails."""
        return {"sequence": self.name, "failing": self.failing}
