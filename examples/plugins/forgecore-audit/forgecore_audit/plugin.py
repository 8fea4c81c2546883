"""The hookimpls of the plugin audit."""

import importlib.resources
from collections.abc import Iterable

import click
from attrs import evolve

from forgecore.plugin import (
    IR,
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
    Import,
    InitContext,
    Migration,
    MigrationsContext,
    OptionsContext,
    Order,
    RenderContext,
    ResourceOptions,
    ScaffoldContext,
    ScaffoldFile,
    SchemaChange,
    Start,
    TransformContext,
    each_resource,
    hookimpl,
    near,
)
from forgecore_audit.schema import Audit, AuditSettings
from forgecore_audit.views import AuditView, event_view

forgecore_order = Order(after=("jobs",))


@hookimpl
def forgecore_config(ctx: ConfigContext) -> type:
    """Give [audit] of forge.toml."""
    return AuditSettings


@hookimpl
def forgecore_options(ctx: OptionsContext) -> Iterable[ResourceOptions]:
    """Give [audit] of a resource."""
    return (ResourceOptions("audit", Audit),)


@hookimpl
def forgecore_transform(ctx: TransformContext) -> IR:
    """Let what is audited have timestamps."""
    return evolve(
        ctx.ir,
        resources=tuple(
            evolve(one, timestamps=True) if one.options(Audit) else one for one in ctx.resources
        ),
    )


@hookimpl
@each_resource
def forgecore_check(ctx: CheckContext) -> Iterable[Diagnostic]:
    """Report fields that the resource does not have."""
    resource = ctx.resource
    if (audit := resource.options(Audit)) is None:
        return
    known = [field.name for field in resource.fields]
    known += [relation.attribute for relation in resource.relations]
    for name in audit.fields:
        if name not in known:
            text = f"{resource.name} has no field `{name}`"
            span = ctx.span(audit, "fields")
            yield Diagnostic("audit/unknown-field", span, text, near(name, known))


@hookimpl
@each_resource
def forgecore_render(ctx: RenderContext) -> Iterable[GeneratedFile]:
    """Give gen/audit/<resource>.py."""
    resource = ctx.resource
    if (audit := resource.options(Audit)) is None:
        return
    imports = [
        Import("typing", "Any"),
        Import("uuid", "UUID"),
        Import("psycopg", "Connection"),
        Import("forgecore_audit", "Entry"),
        Import("forgecore_audit", "entries"),
    ]
    if resource.tenant_scoped:
        imports.append(Import("forgecore.runtime", "current_tenant"))
    yield GeneratedFile(
        path=f"gen/audit/{resource.snake}.py",
        resource=resource.name,
        template="forgecore_audit:templates/history.py.mako",
        view=AuditView.of(resource, audit),
        imports=imports,
    )


@hookimpl
@each_resource
def forgecore_fragments(ctx: FragmentsContext) -> Iterable[Fragment]:
    """Give an arm to each statement of an audited resource, and ask for a user."""
    resource = ctx.resource
    if (audit := resource.options(Audit)) is None:
        return
    view = AuditView.of(resource, audit)
    yield Fragment(
        slot="actions.module",
        resource=resource.name,
        template="forgecore_audit:templates/fields.py.mako",
        view=view,
        imports=(Import("typing", "Final"),),
    )
    yield Fragment(
        slot="actions.method.decorators",
        resource=resource.name,
        template="forgecore_audit:templates/needs_user.py.mako",
        view=view,
        imports=(Import("forgecore_audit", "needs_user"),),
    )
    for event in ("create", "update", "delete"):
        yield Fragment(
            slot=f"actions.{event}.ctes",
            resource=resource.name,
            template="forgecore_audit:templates/audit.sql.mako",
            view=event_view(view, event),
            params={"audit__user": "current_user()"},
            imports=(Import("forgecore.runtime", "current_user"),),
        )


@hookimpl(specname="forgecore_fragments")
def job_fragments(ctx: FragmentsContext) -> Iterable[Fragment]:
    """Let a job act as the user who enqueued it; nothing if there are no jobs."""
    yield Fragment(
        slot="jobs.metadata",
        template="forgecore_audit:templates/metadata.py.mako",
        imports=(Import("forgecore_audit", "user_of_task"),),
        optional=True,
    )
    yield Fragment(
        slot="jobs.around",
        template="forgecore_audit:templates/around.py.mako",
        imports=(Import("forgecore_audit", "as_user_of"),),
        optional=True,
    )


@hookimpl
@each_resource
def forgecore_scaffold(ctx: ScaffoldContext) -> Iterable[ScaffoldFile]:
    """Give resources/<resource>/audit.py, which the user then owns."""
    resource = ctx.resource
    if (audit := resource.options(Audit)) is None:
        return
    yield ScaffoldFile(
        path=f"resources/{resource.snake}/audit.py",
        resource=resource.name,
        template="forgecore_audit:templates/words.py.mako",
        view=AuditView.of(resource, audit),
        imports=(Import("forgecore_audit", "Entry"),),
    )


@hookimpl
def forgecore_migrations(ctx: MigrationsContext) -> Iterable[Migration]:
    """Give the table forge.audit."""
    sql = importlib.resources.files("forgecore_audit") / "migrations" / "0001_audit.sql"
    yield Migration(number=1, name="audit", sql=sql.read_text(encoding="utf-8"))


@hookimpl
def forgecore_graph(ctx: GraphContext) -> Iterable[Edge]:
    """Give an arrow from each audited resource to the table."""
    return [Edge(one.name, "forge.audit") for one in ctx.resources if one.options(Audit)]


@hookimpl
def forgecore_diff(ctx: DiffContext) -> Iterable[SchemaChange]:
    """Say of which resources the history ends."""
    audited = {one.name for one in ctx.resources if one.options(Audit)}
    for one in ctx.before.resources:
        if (audit := one.options(Audit)) and one.name not in audited:
            yield SchemaChange(
                code="audit/ended",
                subject=one.name,
                text=f"what happens to {one.table} is remembered no more",
                effect="breaks",
                span=ctx.before.span(audit),
            )


@hookimpl
def forgecore_init(ctx: InitContext) -> Iterable[Start]:
    """Give a new project the plugin's section."""
    return (Start(config="[audit]\nkeep_days = 365"),)


@hookimpl
def forgecore_commands(ctx: CommandsContext) -> Iterable[click.Command]:
    """Give `forgecore audit`."""
    # A build has no use for what a command imports.
    from forgecore_audit.commands import audit

    return (audit,)
