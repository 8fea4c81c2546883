"""The core's own generator: models, validation, actions and DDL, by the hookspecs alone."""

from collections.abc import Iterable

from forgecore.data.actions import actions_file
from forgecore.data.changes import changes
from forgecore.data.ddl import name_collisions, schema_file
from forgecore.data.models import article, models_file
from forgecore.data.types import field_types
from forgecore.data.validation import validation_file
from forgecore.plugin import (
    CheckContext,
    Diagnostic,
    DiffContext,
    FieldType,
    FieldTypesContext,
    GeneratedFile,
    RenderContext,
    SchemaChange,
    each_resource,
    hookimpl,
)


@hookimpl
def forgecore_field_types(ctx: FieldTypesContext) -> Iterable[FieldType]:  # noqa: ARG001
    """Give the types that need no plugin."""
    return field_types()


@hookimpl
def forgecore_check(ctx: CheckContext) -> Iterable[Diagnostic]:
    """Report two things of the database that would have one name."""
    return name_collisions(ctx.resources)


@hookimpl
@each_resource
def forgecore_render(ctx: RenderContext) -> Iterable[GeneratedFile]:
    """Give the modules of a resource."""
    resource = ctx.resource
    yield models_file(resource)
    yield validation_file(resource, article(resource.words).lower())
    yield actions_file(resource, ctx.ir)


@hookimpl(specname="forgecore_render")
def render_schema(ctx: RenderContext) -> GeneratedFile:
    """Give the database's schema."""
    return schema_file(ctx.ir)


@hookimpl
def forgecore_diff(ctx: DiffContext) -> Iterable[SchemaChange]:
    """Give what has changed for the database, and for those who call the generated code."""
    return changes(ctx)
