"""The hookimpls of the scaffold plugin."""

from collections.abc import Iterable

import click

from forgecore.plugin import CommandsContext, hookimpl


@hookimpl
def forgecore_commands(ctx: CommandsContext) -> Iterable[click.Command]:  # noqa: ARG001
    """Give `forgecore scaffold`."""
    from forgecore_scaffold.commands import scaffold  # noqa: PLC0415 -- a build needs it not

    return (scaffold,)
