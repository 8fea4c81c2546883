"""@worker: the function that runs the jobs of one kind, and the register of them."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, cast, overload

from attrs import frozen

from forgecore_jobs.job import A, AsyncJob, Job

registered: Final[list["Worker[Any]"]] = []
"""Every worker that was declared in this process, in order."""


@frozen
class Worker(Generic[A]):
    """A kind's function. It can be called like the function that it was made of."""

    args: type[A]
    function: Callable[[A, Any], Any]

    @property
    def kind(self) -> str:
        """The kind whose jobs it runs."""
        return self.args.kind

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def place(self) -> str:
        """Where the function stands: file:line."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @overload
    def __call__(self, args: A, job: Job) -> None: ...
    @overload
    def __call__(self, args: A, job: AsyncJob) -> Awaitable[None]: ...
    def __call__(self, args: A, job: Job | AsyncJob) -> Awaitable[None] | None:
        """Call the function itself, as a test of it does."""
        return cast("Awaitable[None] | None", self.function(args, job))


class _Declares(Protocol[A]):
    @overload
    def __call__(self, function: Callable[[A, Job], None]) -> Worker[A]: ...
    @overload
    def __call__(self, function: Callable[[A, AsyncJob], Awaitable[None]]) -> Worker[A]: ...


def worker(args: type[A]) -> _Declares[A]:
    """Declare the function that runs the jobs of a kind.

    It takes the kind's arguments and the job, returns nothing, and may be `async def`.
    """

    def declare(function: Callable[[A, Any], Any]) -> Worker[A]:
        declared = Worker(args, function)
        registered.append(declared)
        return declared

    return cast("_Declares[A]", declare)
