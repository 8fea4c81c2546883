"""Step: a job to be written, with what its call says and what is to follow it."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, cast

from attrs import field, frozen

from forgecore_jobs.job import JobArgs
from forgecore_jobs.sequence import Failing
from forgecore_jobs.unique import Unique

Needs = Literal["completed", "failed", "ended"]
"""What a job waits for of another one: its completion, that it was discarded, or its end."""


@frozen(kw_only=True)
class Call:
    """What a call says of a job; None is left to the kind's hook, or to [jobs]."""

    queue: str | None = None
    run_at: datetime | None = None
    priority: int | None = None
    max_attempts: int | None = None
    unique: Unique | None = None
    sequence: str | None = None
    failing: Failing = "blocks"
    after: Sequence[int] = ()
    needs: Needs = "completed"


@frozen(kw_only=True)
class Step(Call):
    """A job, and what the call says of it. What it leaves out comes from the kind's hook.

    `on_success` and `on_failure` are written with it, and run when it has completed, or was
    discarded. One for a success that does not come is cancelled, one for a failure that does not
    come is not kept.
    """

    args: JobArgs = field(kw_only=False)
    on_success: "Following" = ()
    on_failure: "Following" = ()

    def followers(self) -> Iterator[tuple["Step", Needs]]:
        """Return what follows, and what each waits for."""
        for following, needs in ((self.on_success, "completed"), (self.on_failure, "failed")):
            for one in steps_of(following):
                yield one, cast("Needs", needs)


Following = JobArgs | Step | Sequence[JobArgs | Step]
"""One job or several, as arguments or as steps."""


def steps_of(following: Following) -> list[Step]:
    """Return the steps of what follows."""
    several = (
        following if isinstance(following, list | tuple) else [cast("JobArgs | Step", following)]
    )
    return [one if isinstance(one, Step) else Step(one) for one in several]
