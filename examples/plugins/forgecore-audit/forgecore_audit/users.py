"""The user of a task: needed by what is audited, and carried from an enqueue to its run."""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

from forgecore.runtime import ForbiddenError, acting, current_user

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "audit_user"


class HasMetadata(Protocol):
    """A job, without an import of the jobs plugin: it may not be there."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What went with it from its enqueue."""
        ...


def needs_user(method: F) -> F:
    """Let nobody call a method but for a user: ForbiddenError, and nothing is sent."""

    def check() -> None:
        if current_user() is None:
            raise ForbiddenError("a change that is audited needs a user: acting(user=...)")

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def call_async(*arguments: Any, **named: Any) -> Any:
            check()
            return await method(*arguments, **named)

        return cast("F", call_async)

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        check()
        return method(*arguments, **named)

    return cast("F", call)


def user_of_task() -> Mapping[str, str]:
    """Return the user as a job's metadata has it: nothing if there is none."""
    user = current_user()
    return {} if user is None else {_KEY: str(user)}


def as_user_of(job: HasMetadata) -> AbstractContextManager[object]:
    """Act as the user who enqueued a job, while it runs."""
    user = job.metadata.get(_KEY)
    return acting(user=UUID(user) if user else None)
