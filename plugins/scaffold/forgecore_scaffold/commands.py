"""`forgecore scaffold`."""

import json

import click

from forgecore.build import BuildError, Output, make
from forgecore.cli.project import builtin, project_folder
from forgecore.diagnostics import Diagnostic
from forgecore.names import near, snake
from forgecore_scaffold.files import Scaffold, of_resource, scaffolds


@click.command()
@click.argument("resource", required=False)
@click.option("--diff", is_flag=True, help="Show what a fresh file would look like; write nothing.")
@click.option("--force", is_flag=True, help="Overwrite what exists with a fresh file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of the files and states.")
def scaffold(resource: str | None, diff: bool, force: bool, as_json: bool) -> None:
    """Write the files that are missing under resources/; what exists is never touched.

    Example: forgecore scaffold product
    """
    output = make(project_folder(), builtin(), scaffolds=True)
    found = list(scaffolds(output.of_kind("scaffold"), output.tree.package))
    if resource is not None:
        name = _named(output, resource)
        found = [one for one in found if of_resource(one.path, name)]
    if as_json:
        shown = output.tree.shown
        click.echo(json.dumps([{"path": shown(one.path), "state": one.state} for one in found]))
    elif diff:
        for one in found:
            click.echo(one.diff(output.tree.shown(one.path)), nl=False)
    else:
        for one in found:
            _write(output, one, force=force)


def _write(output: Output, one: Scaffold, *, force: bool) -> None:
    shown = output.tree.shown(one.path)
    if one.state == "fresh" or (one.state == "edited" and not force):
        click.echo(f"skipped {shown}: it exists")
        return
    target = output.tree.package / one.path
    target.parent.mkdir(parents=True, exist_ok=True)
    following = target.with_name(target.name + ".new")
    following.write_text(one.fresh, encoding="utf-8", newline="\n")
    following.replace(target)
    click.echo(f"wrote {shown}")


def _named(output: Output, word: str) -> str:
    known = {name: r.snake for r in output.ir.resources for name in (r.snake, r.name)}
    if word not in known:
        text = f"there is no resource `{word}`"
        suggestion = near(snake(word), known)
        raise BuildError([Diagnostic("unknown-resource", None, text, suggestion)])
    return known[word]
