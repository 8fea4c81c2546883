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
    for path in change.removed:
        click.echo(f"removed {shown(path)}")
    for path in change.written:
        click.echo(f"wrote {shown(path)}")
    total = len(output.of_kind("gen"))
    if change.written or change.removed:
        click.echo(f"{len(change.written)} of {total} files written, {len(change.removed)} removed")
    else:
        click.echo(f"nothing to do: {total} files are as they should be")
