"""@worker: the function that runs the jobs of one kind, and the register of them."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, Generic, Protocol, cast, overload

import attrs
from attrs import field, frozen

from forgecore_jobs.job import A, AsyncJob, Job, version_of

registered: Final[list["Worker[Any]"]] = []
"""Every worker that was declared in this process, in order."""


Callback = Callable[[Any, Any, BaseException], object]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes arguments of one version, as JSON, arguments of the next."""


OnFailure = (
    Callable[[A, Job, BaseException], None]
    | Callable[[A, AsyncJob, BaseException], Awaitable[None]]
)
"""What is called after a failure: the kind's arguments, a job, what was raised."""


@frozen
class Worker(Generic[A]):
    """A kind's function. It can be called like the function that it was made of."""

    args: type[A]
    function: Callable[[A, Any], Any]
    timeout: timedelta | None = field(default=None, kw_only=True)
    on_error: Callback | None = field(default=None, kw_only=True)
    on_discard: Callback | None = field(default=None, kw_only=True)
    throws: tuple[type[BaseException], ...] = field(default=(), kw_only=True)
    retry_when: Callable[[int, BaseException], bool] | None = field(default=None, kw_only=True)
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    upcasters: Mapping[int, Upcaster] = field(factory=dict[int, Upcaster], kw_only=True, eq=False)

    @cached_property
    def kind(self) -> str:
        """The kind whose jobs it runs."""
        return self.args.kind

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind, and the names that it had before."""
        return (self.kind, *self.aliases)

    @cached_property
    def version(self) -> int:
        """The version of the arguments' class: its `version: ClassVar[int]`, or 1."""
        return version_of(self.args)

    @cached_property
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


def worker(
    args: type[A],
    *,
    timeout: timedelta | None = None,
    on_error: OnFailure[A] | None = None,
    on_discard: OnFailure[A] | None = None,
    throws: type[BaseException] | tuple[type[BaseException], ...] = (),
    retry_when: Callable[[int, BaseException], bool] | None = None,
    aliases: Sequence[str] = (),
    upcasters: Mapping[int, Upcaster] | None = None,
) -> _Declares[A]:
    """Declare the function that runs the jobs of a kind.

    It takes the kind's arguments and the job, returns nothing, and may be `async def`.

    `timeout` interrupts a run that takes longer, unless the job's row has another one.
    `on_error` is called after each failed attempt and `on_discard` when the job is given up,
    with the arguments, a job whose `tx` commits with the outcome, and the exception; what they
    raise is logged. `throws` discards at once. `retry_when` is asked with the failures so far
    and the exception, and discards with False.

    `aliases` are names that the kind had before: jobs that were enqueued under them run here.
    `upcasters` make arguments of version n, a dict as in JSON, those of n + 1, up to the
    class's `version`.
    """
    if fault := _fault_of_args(args):
        raise TypeError(fault)
    if timeout is not None and not (
        isinstance(timeout, timedelta)  # pyright: ignore[reportUnnecessaryIsInstance]
        and timeout > timedelta(0)
    ):
        raise TypeError("timeout must be a timedelta of more than nothing")
    if isinstance(aliases, str):
        raise TypeError(f"aliases is a tuple of names: ({aliases!r},)")
    steps = dict(upcasters or {})
    if fault := _fault_of_steps(args, steps):
        raise TypeError(fault)

    def declare(function: Callable[[A, Any], Any]) -> Worker[A]:
        if fault := _fault_of_function(function, on_error, on_discard):
            raise TypeError(fault)
        declared = Worker(
            args,
            function,
            timeout=timeout,
            on_error=cast("Callback | None", on_error),
            on_discard=cast("Callback | None", on_discard),
            throws=throws if isinstance(throws, tuple) else (throws,),
            retry_when=retry_when,
            aliases=tuple(aliases),
            upcasters=steps,
        )
        registered.append(declared)
        return declared

    return cast("_Declares[A]", declare)


def _fault_of_args(args: object) -> str | None:
    if not isinstance(args, type):
        return "@worker takes the class of a kind's arguments: @worker(Args)"
    if not attrs.has(args) or not isinstance(getattr(args, "kind", None), str):
        return f"{args.__name__} is no attrs class with `kind: ClassVar[str]`"
    return None


def _fault_of_steps(args: type, upcasters: Mapping[int, Upcaster]) -> str | None:
    version = version_of(args)
    if version < 1:
        return f"{args.__name__}.version must be 1 or more"
    if odd := sorted(set(upcasters) - set(range(1, version))):
        return f"there is no upcaster from version {odd[0]}: {args.__name__} has version {version}"
    missing = sorted(set(range(min(upcasters, default=version), version)) - set(upcasters))
    if missing:
        return f"an upcaster from version {missing[0]} is missing: {args.__name__} has {version}"
    return None


def _fault_of_function(function: Callable[..., Any], *callbacks: object) -> str | None:
    name = getattr(function, "__name__", repr(function))
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return f"{name} must take the arguments and the job"
    is_async = inspect.iscoroutinefunction(function)
    for callback in callbacks:
        if callback is not None and not is_async and inspect.iscoroutinefunction(callback):
            return f"{name} is no `async def`, so {callback.__name__} cannot be one"
    return None
