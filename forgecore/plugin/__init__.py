"""What a plugin author imports: hookspecs' contexts, artefacts, the IR, diagnostics."""

from forgecore.diagnostics import Diagnostic
from forgecore.ir import (
    IR,
    NO_DEFAULT,
    Code,
    Field,
    FieldType,
    Import,
    Relation,
    Resource,
    Together,
)
from forgecore.names import near, pascal, plural, quoted, snake, words
from forgecore.plugin.artefacts import (
    FieldOptions,
    Fragment,
    GeneratedFile,
    Migration,
    Order,
    ResourceOptions,
    ScaffoldFile,
    Slot,
)
from forgecore.plugin.contexts import (
    CheckContext,
    CommandsContext,
    ConfigContext,
    FieldTypesContext,
    FragmentsContext,
    MigrationsContext,
    OptionsContext,
    RenderContext,
    ScaffoldContext,
    TransformContext,
)
from forgecore.plugin.hookspecs import hookimpl
from forgecore.source import Span

__all__ = [
    "IR",
    "NO_DEFAULT",
    "CheckContext",
    "Code",
    "CommandsContext",
    "ConfigContext",
    "Diagnostic",
    "Field",
    "FieldOptions",
    "FieldType",
    "FieldTypesContext",
    "Fragment",
    "FragmentsContext",
    "GeneratedFile",
    "Import",
    "Migration",
    "MigrationsContext",
    "OptionsContext",
    "Order",
    "Relation",
    "RenderContext",
    "Resource",
    "ResourceOptions",
    "ScaffoldContext",
    "ScaffoldFile",
    "Slot",
    "Span",
    "Together",
    "TransformContext",
    "hookimpl",
    "near",
    "pascal",
    "plural",
    "quoted",
    "snake",
    "words",
]
