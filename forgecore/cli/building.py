"""What `forgecore build` does when there is something to do, or to look at."""

import gc
import json
from collections.abc import Sequence
from typing import Any

import click
from attrs import frozen

from forgecore.build import BuildError, Output, compared, make
from forgecore.build import build as run_build
from forgecore.cli.build import NOTHING
from forgecore.cli.paint import say_diff
from forgecore.cli.progress import progress
from forgecore.cli.project import INPUT, builtin, plugin_folders, project_folder, show
from forgecore.cli.report import as_github, as_json, as_sarif
from forgecore.diagnostics import Diagnostic
from forgecore.ir import related_names
from forgecore.memory import Memory
from forgecore.remembered import Inputs, remember_build
from forgecore.times import times
from forgecore.write.compare import STATES, Difference


@frozen(kw_only=True)
class Wish:
    """What the command line asks for."""

    force: bool
    check: bool
    diff: bool
    dry_run: bool
    watch: bool
    explain: bool
    without: tuple[str, ...]
    stats: bool
    form: str


def run(wish: Wish) -> int:
    """Build, or look; return the exit status."""
    if wish.watch:
        from forgecore.cli.watching import watch  # noqa: PLC0415 -- no other build waits

        watch(project_folder(), wish.without, lambda memory: _run(wish, memory))
    # What somebody asked to be left out, or overwritten, is nothing to go by.
    is_known = not (wish.without or wish.force)
    return _run(wish, Memory.load(project_folder()) if is_known else None)


def _run(wish: Wish, memory: Memory | None) -> int:
    # A build makes many objects and keeps most until it ends: looking for garbage finds none.
    gc.disable()
    try:
        if wish.check or wish.diff or wish.dry_run:
            with progress():
                output = make(project_folder(), builtin(), wish.without)
            status = _looked(output, wish)
        else:
            status = _built(wish, memory)
    except BuildError as error:
        if wish.form == "text":
            raise
        _tell(wish.form, error.diagnostics, (), {})
        status = INPUT
    finally:
        gc.enable()
    if wish.stats:
        for what, name, seconds in times():
            click.echo(f"{what:<9} {seconds * 1e3:9.1f} ms  {name}", err=True)
    return status


def _built(wish: Wish, memory: Memory | None) -> int:
    project, form = project_folder(), wish.form
    inputs = Inputs(project)
    with progress():
        output, change = run_build(
            project, builtin(), wish.without, force=wish.force, memory=memory, inputs=inputs
        )
    shown = output.tree.shown
    removed = [*change.elsewhere, *map(shown, change.removed)]
    written = [*map(shown, change.written)]
    total = output.total
    if memory is not None and not wish.watch:
        memory.save(project)
    if not (wish.without or wish.watch):
        # The next build may go by this one.
        said = {"total": total, "warnings": [warning.render() for warning in output.warnings]}
        remember_build(inputs, output.tree.package, plugin_folders(output.opened.host), said)
    reasons = _reasons(output, change.written, memory) if wish.explain else {}
    if form != "text":
        more: dict[str, Any] = {"written": written, "removed": removed, "files": total}
        _tell(form, output.warnings, (), more | ({"because": reasons} if wish.explain else {}))
        return 0
    show(list(output.warnings))
    for path in removed:
        click.echo(f"removed {path}")
    for path in written:
        click.echo(f"wrote {path}" + (f": {reasons[path]}" if path in reasons else ""))
    if written or removed:
        click.echo(f"{len(written)} of {total} files written, {len(removed)} removed")
    else:
        click.echo(NOTHING.format(total=total))
    return 0


def _reasons(output: Output, written: Sequence[str], memory: Memory | None) -> dict[str, str]:
    """Return, for each file that was written, which inputs have changed since the last build."""
    of = {file.path: file.of for file in output.files}
    sources = {one.name: one.origin.document.source.path for one in output.ir.resources}
    related = related_names(output.ir)
    found: dict[str, str] = {}
    for path in written:
        name = of.get(path)
        files = None if name is None else [sources[one] for one in (name, *related[name])]
        changes = memory.changes(files) if memory is not None else []
        if memory is None:
            text = "everything was made anew, as --force and --without ask for"
        elif changes is None:
            text = "no build before this one is remembered"
        elif changes:
            text = ", ".join(changes)
        else:
            text = "it was not as the last build left it"
        found[output.tree.shown(path)] = text
    return found


def _looked(output: Output, wish: Wish) -> int:
    form, check, diff = wish.form, wish.check, wish.diff
    files, made_by = compared(output)
    status = INPUT if check and (files or made_by) else 0
    if form != "text":
        states = [{"path": one.shown, "state": one.state} for one in files]
        _tell(form, output.warnings, files, {"differences": states, "made_by": made_by})
        return status
    show(list(output.warnings))
    for one in files:
        if check or diff:
            say_diff(one.diff())
        if not diff:
            click.echo(f"{one.state}: {one.shown} {STATES[one.state]}")
    for text in made_by if check else ():
        click.echo(f"forge.lock: {text}")
    if check and status:
        click.echo("gen/ is not up to date: run `forgecore build` and commit it")
    elif not files:
        click.echo(NOTHING.format(total=output.total), err=diff)
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
