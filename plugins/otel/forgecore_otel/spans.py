"""Spans around actions and jobs, and the trace context that goes from one to the other.

Only the API is imported: without an SDK set up by the application, nothing is recorded.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

from opentelemetry import propagate, trace
from opentelemetry.trace import Link, SpanKind

from forgecore.runtime import current_tenant_or_none

P = ParamSpec("P")
R = TypeVar("R")
_TRACER: Final = trace.get_tracer("forgecore")


class _Job(Protocol):
    """What is read of a job, of whatever plugin it is."""

    @property
    def id(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def tenant_id(self) -> UUID | None: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...


def traced(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Open a span called `name` around an action."""

    def decorate(action: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(action):
            waiting = cast("Callable[P, Awaitable[Any]]", action)

            @functools.wraps(action)
            async def wait(*args: P.args, **kwargs: P.kwargs) -> object:
                with _TRACER.start_as_current_span(
                    name, kind=SpanKind.PRODUCER, attributes=_tenant()
                ):
                    return await waiting(*args, **kwargs)

            return cast("Callable[P, R]", wait)

        @functools.wraps(action)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with _TRACER.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=_tenant()):
                return action(*args, **kwargs)

        return call

    return decorate


def trace_context() -> Mapping[str, str]:
    """Return the current trace context as headers: `traceparent`, and `tracestate` if any."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


@contextmanager
def job_span(job: _Job) -> Generator[None]:
    """Open the consumer's span around a run, in the trace that the job was enqueued in."""
    context = propagate.extract(dict(job.metadata))
    producer = trace.get_current_span(context).get_span_context()
    attributes: dict[str, str | int] = {
        "messaging.system": "forgecore",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": str(job.id),
        "forgecore.job.kind": job.kind,
        "forgecore.job.attempt": job.attempt,
    }
    if job.tenant_id is not None:
        attributes["forgecore.tenant_id"] = str(job.tenant_id)
    with _TRACER.start_as_current_span(
        job.kind,
        context=context,
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=[Link(producer)] if producer.is_valid else None,
    ):
        yield


def _tenant() -> dict[str, str]:
    tenant = current_tenant_or_none()
    return {"forgecore.tenant_id": str(tenant)} if tenant else {}
