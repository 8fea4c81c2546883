"""The hookimpls of the otel plugin."""

from collections.abc import Iterable

from attrs import frozen

from forgecore.plugin import Fragment, FragmentsContext, Import, Order, hookimpl

# Its span is the outer one: what jobs says of an action is recorded in it.
forgecore_order = Order(before=("jobs",))


@frozen
class TracedView:
    """What traced.py.mako prints: the span's name is `<resource>.<method>`."""

    name: str


@hookimpl
def forgecore_fragments(ctx: FragmentsContext) -> Iterable[Fragment]:
    """Trace every action, and carry the trace into every job if there are jobs."""
    for resource in ctx.resources:
        yield Fragment(
            slot="actions.method.decorators",
            resource=resource.name,
            template="forgecore_otel:templates/traced.py.mako",
            view=TracedView(resource.snake),
            imports=(Import("forgecore_otel", "traced"),),
        )
    yield Fragment(
        slot="jobs.metadata",
        template="forgecore_otel:templates/metadata.py.mako",
        imports=(Import("forgecore_otel", "trace_context"),),
        optional=True,
    )
    yield Fragment(
        slot="jobs.around",
        template="forgecore_otel:templates/around.py.mako",
        imports=(Import("forgecore_otel", "job_span"),),
        optional=True,
    )
