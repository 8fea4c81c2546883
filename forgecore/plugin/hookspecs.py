"""The hookspecs: what a plugin may answer. Each takes one frozen context and returns data."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import click
import pluggy

from forgecore.diagnostics import Diagnostic
from forgecore.ir import IR, FieldType
from forgecore.plugin.artefacts import (
    Edge,
    FieldOptions,
    Fragment,
    GeneratedFile,
    Migration,
    ResourceOptions,
    ScaffoldFile,
    SchemaChange,
    Start,
)
from forgecore.plugin.contexts import (
    CheckContext,
    CommandsContext,
    ConfigContext,
    DiffContext,
    FieldTypesContext,
    FragmentsContext,
    GraphContext,
    InitContext,
    MigrationsContext,
    OptionsContext,
    RenderContext,
    ScaffoldContext,
    TransformContext,
)

hookspec = pluggy.HookspecMarker("forgecore")
hookimpl = pluggy.HookimplMarker("forgecore")
FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
EACH: Final = "forgecore_each_resource"
OF_EACH: Final = frozenset(
    {"forgecore_check", "forgecore_render", "forgecore_fragments", "forgecore_scaffold"}
)
"""The hookspecs whose hookimpls may be asked for each resource."""


def each_resource(function: FunctionT) -> FunctionT:
    """Let a hookimpl be called once for each resource: below @hookimpl.

    `ctx.resource` is the resource, and `ctx.resources` has it and those that it refers to or that
    refer to it. What is given must be of that resource. It is asked anew only when one of
    these, forge.toml or a plugin has changed, so it may depend on nothing else.
    """
    setattr(function, EACH, True)
    return function


@hookspec
def forgecore_config(ctx: ConfigContext) -> type | None:
    """Give the attrs class of the plugin's section of forge.toml.

    Called in a build, before forge.toml is structured. None: the plugin has no section.
    """


@hookspec
def forgecore_options(ctx: OptionsContext) -> Iterable[ResourceOptions | FieldOptions]:
    """Give attrs classes that add tables to a resource, or keys to a field.

    Called in a build, before the schema is structured. Nothing: the schema stays as it is.
    """


@hookspec
def forgecore_field_types(ctx: FieldTypesContext) -> Iterable[FieldType]:
    """Give field types: their Python type, SQL type and validation rule.

    Called in a build, before the schema is structured. Nothing: no further types.
    """


@hookspec
def forgecore_transform(ctx: TransformContext) -> IR | None:
    """Give a changed IR.

    Called in a build, in the plugins' order, each with the IR of the one before. None: unchanged.
    """


@hookspec
def forgecore_check(ctx: CheckContext) -> Iterable[Diagnostic]:
    """Report what is wrong with the schema.

    Called in a build, after every transform. Nothing: all is well.
    """


@hookspec
def forgecore_render(ctx: RenderContext) -> Iterable[GeneratedFile]:
    """Give the files to generate.

    Called in a build, if no check found a mistake. Nothing: the plugin generates no file.
    """


@hookspec
def forgecore_fragments(ctx: FragmentsContext) -> Iterable[Fragment]:
    """Give fragments for the slots of other templates.

    Called in a build, if no check found a mistake. Nothing: the plugin fills no slot.
    """


@hookspec
def forgecore_scaffold(ctx: ScaffoldContext) -> Iterable[ScaffoldFile]:
    """Give files that are written once and are the user's from then on.

    Called in a build, if no check found a mistake. Nothing: the plugin scaffolds no file.
    """


@hookspec
def forgecore_migrations(ctx: MigrationsContext) -> Iterable[Migration]:
    """Give numbered SQL files of the plugin's own schema objects.

    Called by `forgecore migrate`, which applies them before the application's. Nothing:
    the plugin has no tables.
    """


@hookspec
def forgecore_graph(ctx: GraphContext) -> Iterable[Edge]:
    """Give arrows for the picture of the schema.

    Called by `forgecore graph`. Nothing: resources and relations are all there is.
    """


@hookspec
def forgecore_diff(ctx: DiffContext) -> Iterable[SchemaChange]:
    """Give what has changed since an older schema, and whether it breaks what runs by that one.

    Called by `forgecore diff`. Nothing: of what the plugin adds, nothing matters to others.
    """


@hookspec
def forgecore_init(ctx: InitContext) -> Iterable[Start]:
    """Give what a project to begin with has of the plugin.

    Called by `forgecore init`, when there is no schema yet. Nothing: the plugin is only named.
    """


@hookspec
def forgecore_commands(ctx: CommandsContext) -> Iterable[click.Command]:
    """Give commands of the tool.

    Called when the command line does not know a word itself. Nothing: no commands.
    """
