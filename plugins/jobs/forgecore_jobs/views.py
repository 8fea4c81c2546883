"""The views of what the plugin renders: arguments classes, the outbox arm, wiring, stubs."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, LiteralString

from attrs import evolve, fields, frozen

from forgecore.names import string_literal
from forgecore.plugin import (
    Fragment,
    GeneratedFile,
    Import,
    Resource,
    ScaffoldFile,
    Slot,
)
from forgecore_jobs.checks import Declared, moment
from forgecore_jobs.options import DEFAULT_PRIORITY, EVENTS, Hook
from forgecore_jobs.sql import insert_head
from forgecore_jobs.unique import Unique

METADATA: Final = Slot(
    name="jobs.metadata",
    language="python-expression",
    doc="One expression of type Mapping[str, str], evaluated at every enqueue.",
)
AROUND: Final = Slot(
    name="jobs.around",
    language="python-expression",
    doc="One expression, Callable[[Job | AsyncJob], ContextManager], entered around every run.",
)
SLOTS: Final = (METADATA, AROUND)

_METHODS: Final = {
    "create": ("after_create",),
    "update": ("after_update",),
    "delete": ("after_delete",),
    "restore": ("after_update",),
}
_OPTIONAL: Final[tuple[LiteralString, ...]] = ("priority", "max_attempts", "timeout", "backoff")


@frozen
class ArgsView:
    """An arguments class."""

    name: str
    kind: str
    tenant: str
    hooks: tuple[Hook, ...]


@frozen(kw_only=True)
class ModuleView:
    """What args.py.mako prints above the actions class."""

    classes: tuple[ArgsView, ...]


@frozen(kw_only=True)
class DecoratorView:
    """Which kinds each method enqueues, as the text of arguments."""

    kinds: dict[str, str]
    hooks: tuple[Hook, ...]


@frozen(kw_only=True)
class ArmView:
    """What enqueue.sql.mako prints: one row of VALUES for each hook."""

    hooks: tuple[Hook, ...]
    suffix: str
    head: str
    changed: tuple[str, ...]
    selected: tuple[str, ...]
    new: str
    rows: tuple[str, ...]
    columns: str
    key: tuple[str, ...]
    turn: tuple[str, ...]
    where: tuple[str, ...]


@frozen(kw_only=True)
class DefaultsView:
    """What wiring.py.mako prints for a kind with exactly one hook."""

    kind: str
    text: str
    hook: Hook


@frozen(kw_only=True)
class WiringView:
    """What wiring.py.mako prints."""

    defaults: tuple[DefaultsView, ...]


@frozen(kw_only=True)
class DramatiqView:
    """What dramatiq.py.mako prints."""

    package: str


@frozen
class KindView:
    """A kind and its arguments class."""

    kind: str
    args: str
    hook: Hook


@frozen(kw_only=True)
class WorkersView:
    """What workers.py.mako prints."""

    kinds: tuple[KindView, ...]


@frozen(kw_only=True)
class StubView:
    """A worker to begin with."""

    kind: str
    args: str
    moment: str
    event: str
    hooks: tuple[Hook, ...]


@frozen(kw_only=True)
class StubsView:
    """What worker.py.mako prints."""

    name: str
    snake: str
    stubs: tuple[StubView, ...]


def fragments(package: str, hooks: Sequence[Declared]) -> Iterator[Fragment]:
    """Give, for each resource with hooks, its arguments classes, arms and decorators."""
    for resource in dict.fromkeys(one.resource.name for one in hooks):
        own = [one for one in hooks if one.resource.name == resource]
        yield _module(own)
        yield _decorators(own)
        for event in EVENTS:
            of_event = [one.hook for one in own if one.event == event]
            plain = [hook for hook in of_event if not _is_alone(hook)]
            # A key, or a place in a sequence, is taken for each by itself.
            for hooks_of_arm in (plain, *([hook] for hook in of_event if _is_alone(hook))):
                if hooks_of_arm:
                    yield from _arms(package, own[0].resource, event, hooks_of_arm)


def wiring_file(hooks: Sequence[Declared]) -> GeneratedFile:
    """Give gen/jobs/wiring.py, whose slots feed generated statements and enqueue() alike."""
    by_kind: dict[str, list[Hook]] = {}
    for one in hooks:
        by_kind.setdefault(one.hook.kind, []).append(one.hook)
    only = {kind: found[0] for kind, found in by_kind.items() if len(found) == 1}
    for kind, found in by_kind.items():
        if len({hook.sequence for hook in found}) == 1 and len(found) > 1 and found[0].sequence:
            # Several hooks have no common defaults, but their records have one sequence.
            only[kind] = Hook(kind=kind, sequence=found[0].sequence)
    snakes = {one.hook.kind: one.resource.snake for one in hooks}
    imports = [
        Import("collections.abc", "Mapping"),
        Import("typing", "Final"),
        Import("forgecore_jobs.wiring", "Wiring"),
    ]
    if only:
        imports.append(Import("forgecore_jobs.wiring", "Defaults"))
    if any(hook.unique is not None for hook in only.values()):
        imports.append(Import("forgecore_jobs", "Unique"))
    if any(hook.timeout or (hook.unique and hook.unique.period) for hook in only.values()):
        imports.append(Import("datetime", "timedelta"))

    return GeneratedFile(
        path="gen/jobs/wiring.py",
        template="forgecore_jobs:templates/wiring.py.mako",
        view=WiringView(
            defaults=tuple(
                DefaultsView(
                    kind=kind, text=_defaults(only[kind], snakes[kind]), hook=by_kind[kind][0]
                )
                for kind in sorted(only)
            )
        ),
        imports=imports,
        slots=SLOTS,
    )


def workers_file(package: str, hooks: Sequence[Declared]) -> GeneratedFile:
    """Give gen/jobs/workers.py, by which a type checker finds kinds without a worker."""
    by_args = {one.args: one for one in hooks}
    return GeneratedFile(
        path="gen/jobs/workers.py",
        template="forgecore_jobs:templates/workers.py.mako",
        view=WorkersView(
            kinds=tuple(
                KindView(one.hook.kind, args, one.hook) for args, one in sorted(by_args.items())
            )
        ),
        imports=[
            Import("attrs", "frozen"),
            Import("forgecore_jobs", "Worker"),
            *(
                Import(f"{package}.gen.actions.{one.resource.snake}", args)
                for args, one in by_args.items()
            ),
        ],
    )


def dramatiq_file(package: str) -> GeneratedFile:
    """Give gen/jobs/dramatiq.py, for `dramatiq <package>.gen.jobs.dramatiq`."""
    return GeneratedFile(
        path="gen/jobs/dramatiq.py",
        template="forgecore_jobs:templates/dramatiq.py.mako",
        view=DramatiqView(package=package),
        imports=[
            Import("typing", "Final"),
            Import("forgecore_jobs.engine.broker", "PostgresBroker"),
            Import("forgecore_jobs.engine.run", "dramatiq_broker"),
        ],
    )


def stub_files(package: str, hooks: Sequence[Declared]) -> Iterator[ScaffoldFile]:
    """Give resources/<resource>/jobs.py for each resource with hooks."""
    for resource in dict.fromkeys(one.resource.name for one in hooks):
        own = [one for one in hooks if one.resource.name == resource]
        by_args: dict[str, list[Declared]] = {}
        for one in own:
            by_args.setdefault(one.args, []).append(one)
        snake = own[0].resource.snake
        stubs = tuple(
            StubView(
                kind=found[0].hook.kind,
                args=args,
                moment=" or ".join(moment(one.event, one.resource) for one in found),
                event=f"{snake}.{found[0].hook.kind}",
                hooks=tuple(one.hook for one in found),
            )
            for args, found in by_args.items()
        )
        module = f"{package}.gen.actions.{snake}"
        yield ScaffoldFile(
            path=f"resources/{snake}/jobs.py",
            template="forgecore_jobs:templates/worker.py.mako",
            view=StubsView(name=resource, snake=snake, stubs=stubs),
            imports=[
                Import("forgecore_jobs", "Job"),
                Import("forgecore_jobs", "worker"),
                *(Import(module, args) for args in by_args),
            ],
            resource=resource,
        )


def _is_alone(hook: Hook) -> bool:
    return hook.unique is not None or hook.sequence is not None


def _module(own: Sequence[Declared]) -> Fragment:
    resource = own[0].resource
    tenant = "UUID" if resource.tenant_scoped else "UUID | None"
    by_args: dict[str, list[Hook]] = {}
    for one in own:
        by_args.setdefault(one.args, []).append(one.hook)
    classes = tuple(
        ArgsView(args, hooks[0].kind, tenant, tuple(hooks)) for args, hooks in by_args.items()
    )
    return Fragment(
        slot="actions.module",
        resource=resource.name,
        template="forgecore_jobs:templates/args.py.mako",
        view=ModuleView(classes=classes),
        imports=(
            Import("attrs", "frozen"),
            Import("typing", "ClassVar"),
            Import("uuid", "UUID"),
        ),
    )


def _decorators(own: Sequence[Declared]) -> Fragment:
    kinds: dict[str, str] = {}
    for method, events in _METHODS.items():
        found = [string_literal(one.hook.kind) for one in own if one.event in events]
        if found:
            kinds[method] = ", ".join(found)
    return Fragment(
        slot="actions.method.decorators",
        resource=own[0].resource.name,
        template="forgecore_jobs:templates/enqueues.py.mako",
        view=DecoratorView(kinds=kinds, hooks=tuple(one.hook for one in own)),
        imports=(Import("forgecore_jobs", "enqueues"),),
    )


def _arms(
    package: str, resource: Resource, event: str, hooks: Sequence[Hook]
) -> Iterator[Fragment]:
    method = event.removeprefix("after_")

    def arm(metadata: bool) -> ArmView:
        named: list[LiteralString] = ["kind", "queue", *_used(hooks)]
        columns: list[LiteralString] = ["kind", "queue", "args"]
        selected = ["hook.kind", "hook.queue", _args(resource)]
        if resource.tenant_scoped:
            columns.append("tenant_id")
            selected.append("new.tenant_id")
        turn = _turn(resource, hooks[0])
        if metadata or turn:
            columns.append("metadata")
            parts = ["%(jobs__metadata)s"] if metadata else []
            parts += [_turn_metadata(resource, hooks[0])] if turn else []
            selected.append(" || ".join(parts))
        for name in _used(hooks):
            columns.append(name)
            selected.append(f"hook.{name}")
        unique = hooks[0].unique
        is_alone = _is_alone(hooks[0])
        conditions = _changed(resource, hooks)
        if turn:
            columns[:0] = ["id", "waits"]
            selected[:0] = ["place.id", "place.waits"]
        elif unique is not None:
            columns.insert(0, "id")
            selected.insert(0, "key.job_id")
        return ArmView(
            hooks=tuple(hooks),
            suffix=f"_{hooks[0].kind}" if is_alone else "",
            head=insert_head(columns),
            changed=conditions if is_alone else (),
            selected=tuple(selected),
            new="changed AS new" if is_alone and conditions else "new",
            rows=tuple(_row(hook, named) for hook in hooks),
            columns=", ".join(named),
            key=() if unique is None else _key(resource, hooks[0], unique),
            turn=turn,
            where=("key.is_new",) if unique else () if is_alone else conditions,
        )

    plain = Fragment(
        slot=f"actions.{method}.ctes",
        resource=resource.name,
        template="forgecore_jobs:templates/enqueue.sql.mako",
        view=arm(metadata=False),
        unless=METADATA.name,
    )
    yield plain
    yield evolve(
        plain,
        view=arm(metadata=True),
        unless=None,
        when=METADATA.name,
        params={"jobs__metadata": "Jsonb(metadata())"},
        imports=(
            Import("psycopg.types.json", "Jsonb"),
            Import(f"{package}.gen.jobs.wiring", "metadata"),
        ),
    )


def _changed(resource: Resource, hooks: Sequence[Hook]) -> tuple[str, ...]:
    """Return for which hooks the update is one, or nothing if for all."""
    conditions: list[str] = []
    for hook in hooks:
        names = [resource.attribute(name) or name for name in hook.only_if_changed]
        if not names:
            continue
        # What is restored has changed, whatever it says.
        names += ["deleted_at"] if resource.soft_delete else []
        changed = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in names)
        is_other = f"hook.kind <> {_sql(hook.kind)} OR " if len(hooks) > 1 else ""
        conditions.append(f"{is_other}{changed}")
    return tuple(conditions) if len(conditions) == 1 else tuple(f"({one})" for one in conditions)


def _key(resource: Resource, hook: Hook, unique: Unique) -> tuple[str, ...]:
    given = [
        f"kind => {_sql(hook.kind)}",
        f"args => {_args(resource)}",
        f"queue => {_sql(hook.queue)}",
    ]
    if resource.tenant_scoped:
        given.append("tenant_id => new.tenant_id")
    if unique.by:
        given.append(f"by => {_sql_array(unique.by)}")
    if unique.until != "started":
        given.append(f"until => {_sql(unique.until)}")
    if unique.period is not None:
        given.append(f"period => {_sql(unique.period)}")
    if unique.queue:
        given.append("by_queue => true")
    if unique.replace:
        given.append(f"replaced => {_sql_array(unique.replace)}")
    if hook.priority is not None:
        given.append(f"priority => {hook.priority}")
    return tuple(given)


def _turn(resource: Resource, hook: Hook) -> tuple[str, ...]:
    if hook.sequence is None:
        return ()
    place = f"sequence => {_sequence(resource)}"
    return ("job_id => key.job_id", place) if hook.unique is not None else (place,)


def _turn_metadata(resource: Resource, hook: Hook) -> str:
    name = _sequence(resource)
    return f"jsonb_build_object('sequence', {name}, 'failing', {_sql(hook.sequence)})"


def _sequence(resource: Resource) -> str:
    return f"{_sql(f'{resource.snake}/')} || new.id"


def _args(resource: Resource) -> str:
    tenant = "new.tenant_id" if resource.tenant_scoped else "NULL"
    return f"jsonb_build_object('resource_id', new.id, 'tenant_id', {tenant})"


def _used(hooks: Sequence[Hook]) -> list[LiteralString]:
    return [name for name in _OPTIONAL if any(getattr(hook, name) is not None for hook in hooks)]


def _row(hook: Hook, columns: Sequence[str]) -> str:
    values = {name: getattr(hook, name) for name in columns}
    if values.get("priority", 0) is None:
        values["priority"] = DEFAULT_PRIORITY
    return "(" + ", ".join(_sql(value) for value in values.values()) + ")"


def _sql(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case int():
            return str(value)
        case timedelta():
            return f"interval '{_seconds(value)} seconds'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def _sql_array(values: Sequence[str]) -> str:
    return f"ARRAY[{', '.join(map(_sql, values))}]"


def _seconds(value: timedelta) -> str:
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".")


def _defaults(hook: Hook, snake: str) -> str:
    parts = [f"queue={string_literal(hook.queue)}"]
    for name in _OPTIONAL:
        value = getattr(hook, name)
        if isinstance(value, timedelta):
            parts.append(f"{name}=timedelta(seconds={_seconds(value)})")
        elif value is not None:
            parts.append(f"{name}={string_literal(value) if isinstance(value, str) else value}")
    if hook.unique is not None:
        parts.append(f"unique={_unique(hook.unique)}")
    if hook.sequence is not None:
        parts += [f"sequence={string_literal(snake)}", f"failing={string_literal(hook.sequence)}"]
    return f"Defaults({', '.join(parts)})"


def _unique(unique: Unique) -> str:
    parts: list[str] = []
    for one in fields(Unique):
        value: object = getattr(unique, one.name)
        if value == one.default:
            continue
        text = (
            f"timedelta(seconds={_seconds(value)})" if isinstance(value, timedelta) else repr(value)
        )
        parts.append(f"{one.name}={text}")
    return f"Unique({', '.join(parts)})"
