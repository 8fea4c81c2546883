"""What a change of the schema does to jobs: those that wait, and workers of two deployments."""

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from forgecore.plugin import DiffContext, Effect, SchemaChange, SchemaContext, Span
from forgecore_jobs.checks import Declared, declared_hooks
from forgecore_jobs.settings import JobsSettings

CODES: Final[Mapping[str, str]] = {
    "jobs/kind-added": "A kind that is new: workers of an older deployment leave it alone.",
    "jobs/kind-removed": "A kind that goes: jobs that wait have no worker.",
    "jobs/args-changed": "Arguments that a worker of the other deployment cannot read.",
    "jobs/hook-added": "An event that enqueues a kind which was there before.",
    "jobs/hook-removed": "An event that no longer enqueues a kind which stays.",
    "jobs/hook-changed": "Other updates that enqueue a kind.",
    "jobs/queue-changed": "A kind whose jobs go to another queue.",
    "jobs/queue-removed": "A queue that goes: jobs that wait in it are not run.",
}
"""The codes of the changes that this plugin finds."""


@frozen
class Kind:
    """A kind, with the hooks that enqueue it."""

    hooks: tuple[Declared, ...]

    @property
    def first(self) -> Declared:
        """A hook of it: all are of one resource."""
        return self.hooks[0]

    @property
    def events(self) -> dict[str, Declared]:
        """The events that enqueue it."""
        return {one.event: one for one in self.hooks}


def changes(ctx: DiffContext) -> Iterator[SchemaChange]:
    """Give what has changed for jobs since `ctx.before`."""
    before, after = _kinds(ctx.before), _kinds(ctx)
    for name, kind in before.items():
        if name not in after:
            text = (
                f"jobs of {name} that wait have no worker: let them end first, "
                f"or keep its function (`forgecore jobs list --kind {name}`)"
            )
            table = kind.first.resource.table
            like = [
                other
                for other, one in after.items()
                if other not in before and one.first.resource.table == table
            ]
            if like:
                text += f"; if it is called {like[0]} now, give that aliases=({name!r},)"
            span = ctx.before.span(kind.first.hook, "kind")
            yield _change("kind-removed", name, text, "breaks", span)
    for name, kind in after.items():
        span = ctx.span(kind.first.hook, "kind")
        if name not in before:
            text = f"{name} is new: workers of an older deployment leave its jobs alone"
            yield _change("kind-added", name, text, "safe", span)
        else:
            yield from _kind(ctx, name, before[name], kind)
    yield from _queues(ctx)


def _kind(ctx: DiffContext, name: str, old: Kind, new: Kind) -> Iterator[SchemaChange]:
    was, is_ = old.first.resource, new.first.resource
    span = ctx.span(new.first.hook, "kind")
    if was.table != is_.table and was.name != is_.name:
        text = f"`resource_id` of {name} is of {is_.name}: jobs that wait have one of {was.name}"
        yield _change("args-changed", name, text, "breaks", span)
    if was.tenant_scoped and not is_.tenant_scoped:
        text = f"{name} has no tenant: a worker of the older deployment cannot read its jobs"
        yield _change("args-changed", name, text, "breaks", span)
    elif is_.tenant_scoped and not was.tenant_scoped:
        text = f"{name} has a tenant: a worker of this one cannot read the jobs that wait"
        yield _change("args-changed", name, text, "breaks", span)
    for event, one in old.events.items():
        if event not in new.events:
            text = f"{event} of {is_.name} enqueues {name} no more"
            place = ctx.before.span(one.hook, "kind")
            yield _change("hook-removed", name, text, "breaks", place)
    for event, one in new.events.items():
        place = ctx.span(one.hook, "kind")
        if event not in old.events:
            text = f"{event} of {is_.name} enqueues {name} as well"
            yield _change("hook-added", name, text, "safe", place)
            continue
        was_hook = old.events[event].hook
        if was_hook.queue != one.hook.queue:
            text = f"{name} goes to the queue {one.hook.queue}, and went to {was_hook.queue}"
            yield _change("queue-changed", name, text, "safe", ctx.span(one.hook, "queue"))
        before, after = {*was_hook.only_if_changed}, {*one.hook.only_if_changed}
        if before != after:
            # Without any, every update enqueues it.
            is_wider = not after or (bool(before) and before <= after)
            said = f"if one of {', '.join(sorted(after))} has changed" if after else "always"
            text = f"{event} of {is_.name} enqueues {name} {said}"
            span = ctx.span(one.hook, "only_if_changed" if after else "kind")
            yield _change("hook-changed", name, text, "safe" if is_wider else "breaks", span)


def _queues(ctx: DiffContext) -> Iterator[SchemaChange]:
    if JobsSettings not in ctx.before.settings.sections:
        return
    after = ctx.config(JobsSettings).limits
    for queue in ctx.before.config(JobsSettings).limits:
        if queue not in after:
            text = f"jobs that wait in the queue {queue} are not run: let them end first"
            span = ctx.before.config_span(JobsSettings, "queues", queue, of_key=True)
            yield _change("queue-removed", queue, text, "breaks", span)


def _kinds(ctx: SchemaContext) -> dict[str, Kind]:
    found: dict[str, list[Declared]] = {}
    for one in declared_hooks(ctx.resources):
        found.setdefault(one.hook.kind, []).append(one)
    return {name: Kind(tuple(hooks)) for name, hooks in found.items()}


def _change(code: str, subject: str, text: str, effect: Effect, span: Span | None) -> SchemaChange:
    return SchemaChange(code=f"jobs/{code}", subject=subject, text=text, effect=effect, span=span)
