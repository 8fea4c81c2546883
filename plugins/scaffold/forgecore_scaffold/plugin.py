"""The hookimpls of the scaffold plugin."""

from collections.abc import Iterable

import click

from forgecore.plugin import CommandsContext, InitContext, Start, hookimpl


@hookimpl
def forgecore_init(ctx: InitContext) -> Iterable[Start]:  # noqa: ARG001
    """Give the command that a new project runs after its first build."""
    return (Start(after_build=("forgecore scaffold",)),)


@hookimpl
def forgecore_commands(ctx: CommandsContext) -> Iterable[click.Command]:  # noqa: ARG001
    """Give `forgecore scaffold`."""
    from forgecore_scaffold.commands import scaffold  # noqa: PLC0415 -- a build needs it not

    return (scaffold,)
