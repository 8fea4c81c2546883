"""`forgecore scaffold`."""

import json

import click

from forgecore.build import BuildError, Output, make
from forgecore.cli.project import EnvironmentFailedError, builtin, project_folder
from forgecore.diagnostics import Diagnostic
from forgecore.names import near, snake
from forgecore_scaffold.files import Scaffold, of_resource, scaffolds
from forgecore_scaffold.merge import NoGitError, Pristine, has_conflict, merged


@click.command()
@click.argument("resource", required=False)
@click.option("--diff", is_flag=True, help="Show what a fresh file would look like; write nothing.")
@click.option("--merge", is_flag=True, help="Bring what is new into files that you changed.")
@click.option("--force", is_flag=True, help="Overwrite what exists with a fresh file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of the files and states.")
def scaffold(resource: str | None, diff: bool, merge: bool, force: bool, as_json: bool) -> int:
    """Write the files that are missing under resources/; what exists is never touched.

    Example: forgecore scaffold product
    """
    if merge and (diff or force):
        raise click.UsageError("--merge goes with neither --diff nor --force")
    output = make(project_folder(), builtin(), scaffolds=True)
    found = list(scaffolds(output.of_kind("scaffold"), output.tree.package))
    if resource is not None:
        name = _named(output, resource)
        found = [one for one in found if of_resource(one.path, name)]
    if merge:
        return _merge(output, found, as_json=as_json)
    if as_json:
        shown = output.tree.shown
        click.echo(json.dumps([{"path": shown(one.path), "state": one.state} for one in found]))
    elif diff:
        for one in found:
            click.echo(one.diff(output.tree.shown(one.path)), nl=False)
    else:
        for one in found:
            _write(output, one, force=force)
    return 0


def _write(output: Output, one: Scaffold, *, force: bool) -> None:
    shown = output.tree.shown(one.path)
    pristine = Pristine(output.tree.project)
    if one.state == "fresh":
        pristine.remember(shown, one.fresh)
    if one.state == "fresh" or (one.state == "edited" and not force):
        click.echo(f"skipped {shown}: it exists")
        return
    _replace(output, one, one.fresh)
    pristine.remember(shown, one.fresh)
    click.echo(f"wrote {shown}")


def _merge(output: Output, found: list[Scaffold], *, as_json: bool) -> int:
    """Merge every file; 1 if somebody must end a merge, or cannot be helped."""
    pristine = Pristine(output.tree.project)
    told: list[tuple[str, str]] = []
    for one in found:
        shown = output.tree.shown(one.path)
        if one.current is not None and has_conflict(one.current):
            told.append((shown, "conflict"))
            continue
        try:
            outcome, text = merged(one, pristine.read(shown))
        except NoGitError as error:
            raise EnvironmentFailedError(str(error)) from error
        if text != one.current:
            _replace(output, one, text)
        if outcome != "unknown":
            pristine.remember(shown, one.fresh)
        told.append((shown, outcome))
    said = {
        "written": "wrote {}",
        "same": "nothing new for {}",
        "merged": "merged {}",
        "conflict": "conflict in {}: end it by hand, then run this again",
        "unknown": "cannot merge {}: nobody remembers how it was scaffolded; see --diff",
    }
    if as_json:
        click.echo(json.dumps([{"path": path, "state": state} for path, state in told]))
    else:
        for path, state in told:
            click.echo(said[state].format(path))
    return 1 if any(state in {"conflict", "unknown"} for _, state in told) else 0


def _replace(output: Output, one: Scaffold, text: str) -> None:
    target = output.tree.package / one.path
    target.parent.mkdir(parents=True, exist_ok=True)
    following = target.with_name(target.name + ".new")
    following.write_text(text, encoding="utf-8", newline="\n")
    following.replace(target)


def _named(output: Output, word: str) -> str:
    known = {name: r.snake for r in output.ir.resources for name in (r.snake, r.name)}
    if word not in known:
        text = f"there is no resource `{word}`"
        suggestion = near(snake(word), known)
        raise BuildError([Diagnostic("unknown-resource", None, text, suggestion)])
    return known[word]
