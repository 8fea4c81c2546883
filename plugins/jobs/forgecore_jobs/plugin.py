"""The hookimpls of the jobs plugin."""

from collections.abc import Iterable

import click

from forgecore.plugin import (
    CheckContext,
    CommandsContext,
    ConfigContext,
    Diagnostic,
    DiffContext,
    Edge,
    Fragment,
    FragmentsContext,
    GeneratedFile,
    GraphContext,
    InitContext,
    Migration,
    MigrationsContext,
    OptionsContext,
    RenderContext,
    ResourceOptions,
    ScaffoldContext,
    ScaffoldFile,
    SchemaChange,
    Start,
    each_resource,
    hookimpl,
)
from forgecore_jobs.changes import changes
from forgecore_jobs.checks import (
    bad_conditions,
    bad_kinds,
    bad_uniques,
    cascades,
    declared_hooks,
    missing_workers,
    unknown_queues,
    unserved_entries,
)
from forgecore_jobs.options import Hooks
from forgecore_jobs.settings import JobsSettings
from forgecore_jobs.start import start
from forgecore_jobs.tables import migrations
from forgecore_jobs.views import (
    dramatiq_file,
    fragments,
    stub_files,
    wiring_file,
    workers_file,
)


@hookimpl
def forgecore_config(ctx: ConfigContext) -> type:  # noqa: ARG001
    """Give [jobs]."""
    return JobsSettings


@hookimpl
def forgecore_options(ctx: OptionsContext) -> Iterable[ResourceOptions]:  # noqa: ARG001
    """Give [[hooks.after_create]] and its sisters."""
    return (ResourceOptions("hooks", Hooks),)


@hookimpl
def forgecore_check(ctx: CheckContext) -> Iterable[Diagnostic]:
    """Report kinds, queues and cascades that cannot be, and kinds without a worker."""
    hooks = declared_hooks(ctx.resources)
    yield from bad_kinds(ctx, hooks)
    if ctx.is_whole(JobsSettings):
        settings = ctx.config(JobsSettings)
        yield from unknown_queues(ctx, hooks, settings.limits)
        yield from unserved_entries(ctx, settings)
    yield from bad_conditions(ctx, hooks)
    yield from bad_uniques(ctx, hooks)
    yield from cascades(ctx)
    yield from missing_workers(ctx, hooks)


@hookimpl
def forgecore_render(ctx: RenderContext) -> Iterable[GeneratedFile]:
    """Give gen/jobs."""
    hooks = declared_hooks(ctx.resources)
    yield wiring_file(hooks)
    yield dramatiq_file(ctx.ir.package)
    if hooks:
        yield workers_file(ctx.ir.package, hooks)


@hookimpl
@each_resource
def forgecore_fragments(ctx: FragmentsContext) -> Iterable[Fragment]:
    """Give the outbox arms, and the arguments classes."""
    return fragments(ctx.ir.package, declared_hooks([ctx.resource]))


@hookimpl
@each_resource
def forgecore_scaffold(ctx: ScaffoldContext) -> Iterable[ScaffoldFile]:
    """Give the workers to begin with."""
    return stub_files(ctx.ir.package, declared_hooks([ctx.resource]))


@hookimpl
def forgecore_migrations(ctx: MigrationsContext) -> Iterable[Migration]:  # noqa: ARG001
    """Give the tables of the schema forge."""
    return migrations()


@hookimpl
def forgecore_graph(ctx: GraphContext) -> Iterable[Edge]:
    """Give an arrow from each resource to each queue that its hooks enqueue into."""
    for one in declared_hooks(ctx.resources):
        label = f"{one.event}: {one.hook.kind}"
        yield Edge(one.resource.name, f"queue {one.hook.queue}", label)


@hookimpl
def forgecore_diff(ctx: DiffContext) -> Iterable[SchemaChange]:
    """Give what has changed for jobs that wait, and for workers of an older deployment."""
    return changes(ctx)


@hookimpl
def forgecore_init(ctx: InitContext) -> Iterable[Start]:
    """Give a hook, its queue and a test of it."""
    return (start(ctx.name, ctx.plugins),)


@hookimpl
def forgecore_commands(ctx: CommandsContext) -> Iterable[click.Command]:  # noqa: ARG001
    """Give `forgecore jobs`."""
    from forgecore_jobs.commands import jobs  # noqa: PLC0415 -- a build needs no dramatiq

    return (jobs,)
