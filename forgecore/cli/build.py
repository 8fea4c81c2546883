"""`forgecore build`: from the schema to gen/."""

import click

from forgecore.build import build as run_build
from forgecore.cli.project import builtin, project_folder, show


@click.command()
@click.option("--force", is_flag=True, help="Overwrite generated files that were changed by hand.")
def build(force: bool) -> None:
    """Build gen/ from the schema.

    Example: forgecore build
    """
    output, change = run_build(project_folder(), builtin(), force=force)
    show(list(output.warnings))
    shown = output.tree.shown
    for path in (*change.elsewhere, *map(shown, change.removed)):
        click.echo(f"removed {path}")
    for path in change.written:
        click.echo(f"wrote {shown(path)}")
    total = len(output.of_kind("gen"))
    gone = len(change.removed) + len(change.elsewhere)
    if change.written or gone:
        click.echo(f"{len(change.written)} of {total} files written, {gone} removed")
    else:
        click.echo(f"nothing to do: {total} files are as they should be")
