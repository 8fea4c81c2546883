"""The jobs plugin's rules: kinds, queues, and workers that are not there yet."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from forgecore.names import fault_of_snake
from forgecore.plugin import CheckContext, Diagnostic, Resource, near, pascal
from forgecore_jobs.options import EVENTS, Hook, Hooks
from forgecore_jobs.settings import JobsSettings

CODES: Final[Mapping[str, str]] = {
    "jobs/bad-kind": "A kind whose name cannot be one.",
    "jobs/duplicate-kind": "A kind that two resources name, or one event twice.",
    "jobs/unknown-queue": "A queue that [jobs.queues] does not have.",
    "jobs/bad-condition": "An only_if_changed on no update hook, or of what the resource has not.",
    "jobs/bad-unique": "A unique key over arguments that a hook's jobs do not have.",
    "jobs/cascade": "A cascade that would delete past after_delete hooks.",
    "jobs/no-worker": "A kind that no function under resources/ runs; the build goes on.",
}
"""The codes of this plugin's diagnostics."""


ARGUMENTS: Final = ("resource_id", "tenant_id")
"""The arguments of every hook's jobs."""

_STUB: Final = frozenset({"worker", "str", "self"})
"""What a worker's module or the class of all workers uses: the name would hide it."""


_WORKER: Final = re.compile(r"^[^#\n]*\bworker\(\s*(?:\w+\.)*(\w+)", re.MULTILINE)
"""A call of worker() that stands in no comment: a thousand files are read faster than parsed."""


@frozen(kw_only=True)
class Declared:
    """A hook where it was declared."""

    resource: Resource
    event: str
    hook: Hook

    @property
    def args(self) -> str:
        """The name of the kind's arguments class."""
        return f"{pascal(self.hook.kind)}Args"


def declared_hooks(resources: Sequence[Resource]) -> list[Declared]:
    """Return every hook of the schema, by resource, event and declaration."""
    return [
        Declared(resource=resource, event=event, hook=hook)
        for resource in resources
        for event in EVENTS
        for hook in (resource.options(Hooks) or Hooks()).of(event)
    ]


def bad_kinds(ctx: CheckContext, hooks: Sequence[Declared]) -> Iterator[Diagnostic]:
    """Report kinds that cannot be names, or that collide."""
    first: dict[str, Declared] = {}
    for one in hooks:
        kind = one.hook.kind
        other = first.setdefault(one.args, one)
        texts: list[str] = []
        if fault := fault_of_snake(kind):
            texts.append(f"the kind `{kind}` {fault}")
        if kind in _STUB:
            texts.append(f"the kind `{kind}` is reserved")
        if one.args in {one.resource.name, f"{one.resource.name}Columns"}:
            texts.append(f"the kind `{kind}` would hide the resource's class `{one.args}`")
        if other is one and not texts:
            continue
        span = ctx.span(one.hook, "kind")
        yield from (Diagnostic("jobs/bad-kind", span, text) for text in texts)
        if other is one:
            continue
        place = ctx.span(other.hook, "kind")
        also = [(place, "the other one")] if place else []
        if other.hook.kind != kind:
            text = f"the kinds `{other.hook.kind}` and `{kind}` both become `{one.args}`"
            yield Diagnostic("jobs/bad-kind", span, text, also=also)
        elif other.resource is not one.resource:
            text = f"the kind `{kind}` belongs to two resources, and its arguments to neither"
            yield Diagnostic("jobs/duplicate-kind", span, text, also=also)
        elif other.event == one.event:
            text = f"`{one.event}` names the kind `{kind}` twice"
            yield Diagnostic("jobs/duplicate-kind", span, text, also=also)


def unknown_queues(
    ctx: CheckContext, hooks: Sequence[Declared], queues: Mapping[str, int]
) -> Iterator[Diagnostic]:
    """Report queues that no worker process would serve."""
    for one in hooks:
        if one.hook.queue not in queues:
            text = f"queue `{one.hook.queue}` is not in [jobs.queues]"
            suggestion = near(one.hook.queue, queues)
            span = ctx.span(one.hook, "queue")
            yield Diagnostic("jobs/unknown-queue", span, text, suggestion)


def bad_conditions(ctx: CheckContext, hooks: Sequence[Declared]) -> Iterator[Diagnostic]:
    """Report conditions that no statement could decide."""
    for one in hooks:
        names = one.hook.only_if_changed
        if not names:
            continue
        span = ctx.span(one.hook, "only_if_changed")
        if one.event != "after_update":
            text = f"`only_if_changed` belongs to after_update: {one.event} changes nothing"
            yield Diagnostic("jobs/bad-condition", span, text)
            continue
        are_unread = any(path[0] in {"fields", "relations"} for path in one.resource.unread)
        known = [field.name for field in one.resource.fields]
        known += [relation.name for relation in one.resource.relations]
        for name in names:
            if name not in known and not are_unread:
                text = f"{one.resource.name} has no field or relation `{name}`"
                yield Diagnostic("jobs/bad-condition", span, text, near(name, known))


def bad_uniques(ctx: CheckContext, hooks: Sequence[Declared]) -> Iterator[Diagnostic]:
    """Report unique keys over arguments that are not there."""
    for one in hooks:
        if one.hook.unique is None:
            continue
        for name in one.hook.unique.by:
            if name not in ARGUMENTS:
                text = f"a hook's jobs have no argument `{name}`: {', '.join(ARGUMENTS)}"
                span = ctx.span(one.hook.unique, "by")
                yield Diagnostic("jobs/bad-unique", span, text, near(name, ARGUMENTS))


def unserved_entries(ctx: CheckContext, settings: JobsSettings) -> Iterator[Diagnostic]:
    """Report periodic entries, and limits, whose queue no worker process would serve."""
    queues = settings.limits
    for index, entry in enumerate(settings.periodic):
        if entry.queue is not None and entry.queue not in queues:
            text = f"queue `{entry.queue}` of the entry {entry.name!r} is not in [jobs.queues]"
            span = ctx.config_span(JobsSettings, "periodic", index, "queue")
            yield Diagnostic("jobs/unknown-queue", span, text, near(entry.queue, queues))
    limits: tuple[tuple[str, Iterable[tuple[str, str | int]]], ...] = (
        *(
            (name, ((queue, queue) for queue in getattr(settings, name)))
            for name in ("global_limits", "rate_limits", "tenant_limits", "tenant_rate_limits")
        ),
        ("round_robin", ((queue, place) for place, queue in enumerate(settings.round_robin))),
    )
    for name, named in limits:
        for queue, key in named:
            if queue not in queues:
                text = f"queue `{queue}` of `{name}` is not in [jobs.queues]"
                span = ctx.config_span(JobsSettings, name, key, of_key=isinstance(key, str))
                yield Diagnostic("jobs/unknown-queue", span, text, near(queue, queues))


def cascades(ctx: CheckContext) -> Iterator[Diagnostic]:
    """Report cascades onto resources whose deletion enqueues jobs."""
    for resource in ctx.resources:
        options = resource.options(Hooks)
        if options is None or not options.after_delete:
            continue
        for relation in resource.relations:
            if relation.on_delete == "cascade":
                text = (
                    f"{resource.name} has after_delete hooks, and Postgres would delete past them: "
                    "use restrict, or delete in code"
                )
                yield Diagnostic("jobs/cascade", ctx.span(relation, "on_delete"), text)


def missing_workers(ctx: CheckContext, hooks: Sequence[Declared]) -> Iterator[Diagnostic]:
    """Report kinds without a worker, with the command or the lines that bring one."""
    known = _worked(ctx.folder / "resources")
    for one in {one.args: one for one in reversed(hooks)}.values():
        if one.args in known:
            continue
        path = f"resources/{one.resource.snake}/jobs.py"
        if not (ctx.folder / path).is_file() and "scaffold" in ctx.plugins:
            text = f"kind {one.hook.kind} has no worker: forgecore scaffold {one.resource.snake}"
        else:
            text = f"kind {one.hook.kind} has no worker; add to {path}:\n{_lines(ctx, one)}"
        span = ctx.span(one.hook, "kind")
        yield Diagnostic("jobs/no-worker", span, text, severity="warning")


def moment(event: str, resource: Resource) -> str:
    """Return when a kind of this event runs, in words."""
    deed = {
        "after_create": "created",
        "after_update": "changed",
        "after_delete": "deleted",
    }[event]
    article = "an" if resource.words[:1] in "aeiou" else "a"
    return f"{deed} {article} {resource.words}"


def _lines(ctx: CheckContext, one: Declared) -> str:
    module = f"{ctx.ir.package}.gen.actions.{one.resource.snake}"
    return "\n".join(
        [
            f"    from {module} import {one.args}",
            "",
            f"    @worker({one.args})",
            f"    def {one.hook.kind}(args: {one.args}, job: Job) -> None:",
            f'        """Run after the transaction that {moment(one.event, one.resource)}."""',
        ]
    )


def _worked(folder: Path) -> set[str]:
    """Return the arguments classes that worker() is called with; the files are not imported."""
    found: set[str] = set()
    for path in sorted(folder.glob("*/jobs.py")):
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        found |= set(_WORKER.findall(text))
    return found
