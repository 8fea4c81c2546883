"""`forgecore build`: from the schema to gen/, or how gen/ stands to the schema."""

import json
from collections.abc import Sequence
from typing import Any

import click

from forgecore.build import BuildError, Output, compared, make
from forgecore.build import build as run_build
from forgecore.cli.project import INPUT, builtin, project_folder, show
from forgecore.cli.report import FORMATS, as_github, as_json, as_sarif
from forgecore.diagnostics import Diagnostic
from forgecore.times import times
from forgecore.write.compare import STATES, Difference


@click.command()
@click.option("--force", is_flag=True, help="Overwrite generated files that were changed by hand.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if gen/ is not up to date.")
@click.option("--diff", is_flag=True, help="Write nothing; show what would change.")
@click.option("--dry-run", is_flag=True, help="Write nothing; name the files that would change.")
@click.option("--without", multiple=True, metavar="PLUGIN", help="Leave a plugin out. Repeatable.")
@click.option("--stats", is_flag=True, help="Say where the time went.")
@click.option("--json", "as_json_", is_flag=True, help="The same as --format json.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", help="How findings are told."
)
def build(  # noqa: PLR0917 -- click passes options by name
    force: bool,
    check: bool,
    diff: bool,
    dry_run: bool,
    without: tuple[str, ...],
    stats: bool,
    as_json_: bool,
    form: str,
) -> int:
    """Build gen/ from the schema.

    Example: forgecore build --check
    """
    form = "json" if as_json_ else form
    if force and (check or diff or dry_run):
        raise click.UsageError("--force writes, so it goes with none of --check, --diff, --dry-run")
    try:
        if check or diff or dry_run:
            status = _looked(make(project_folder(), builtin(), without), form, check, diff)
        else:
            status = _built(without, form, force=force)
    except BuildError as error:
        if form == "text":
            raise
        _tell(form, error.diagnostics, (), {})
        status = INPUT
    if stats:
        for what, name, seconds in times():
            click.echo(f"{what:<9} {seconds * 1e3:9.1f} ms  {name}", err=True)
    return status


def _built(without: Sequence[str], form: str, *, force: bool) -> int:
    output, change = run_build(project_folder(), builtin(), without, force=force)
    shown = output.tree.shown
    removed = [*change.elsewhere, *map(shown, change.removed)]
    written = [*map(shown, change.written)]
    total = len(output.of_kind("gen"))
    if form != "text":
        more = {"written": written, "removed": removed, "files": total}
        _tell(form, output.warnings, (), more)
        return 0
    show(list(output.warnings))
    for path in removed:
        click.echo(f"removed {path}")
    for path in written:
        click.echo(f"wrote {path}")
    if written or removed:
        click.echo(f"{len(written)} of {total} files written, {len(removed)} removed")
    else:
        click.echo(f"nothing to do: {total} files are as they should be")
    return 0


def _looked(output: Output, form: str, check: bool, diff: bool) -> int:
    files, made_by = compared(output)
    status = INPUT if check and (files or made_by) else 0
    if form != "text":
        states = [{"path": one.shown, "state": one.state} for one in files]
        _tell(form, output.warnings, files, {"differences": states, "made_by": made_by})
        return status
    show(list(output.warnings))
    for one in files:
        if check or diff:
            click.echo(one.diff(), nl=False)
        if not diff:
            click.echo(f"{one.state}: {one.shown} {STATES[one.state]}")
    for text in made_by if check else ():
        click.echo(f"forge.lock: {text}")
    if check and status:
        click.echo("gen/ is not up to date: run `forgecore build` and commit it")
    elif not files:
        total = len(output.of_kind("gen"))
        click.echo(f"nothing to do: {total} files are as they should be", err=diff)
    return status


def _tell(
    form: str,
    diagnostics: Sequence[Diagnostic],
    files: Sequence[Difference],
    more: dict[str, Any],
) -> None:
    match form:
        case "github":
            text = as_github(diagnostics, files)
        case "sarif":
            text = as_sarif(diagnostics, files)
        case _:
            text = json.dumps({"diagnostics": as_json(diagnostics), **more})
    if text:
        click.echo(text)
