"""`forgecore explain`: from a generated line to template, plugin and schema key, and back."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from forgecore.build import BuildError, Output, compared, make
from forgecore.cli.project import builtin, project_folder, shown_path
from forgecore.diagnostics import Diagnostic
from forgecore.names import near
from forgecore.provenance import Line, Made, lines_of, made_by
from forgecore.render.trace import Place
from forgecore.source import Origin
from forgecore.write.compare import STATES

_FEW: Final = 3
"""Lines that are shown whole; of more only their numbers are."""


@click.command()
@click.argument("place", metavar="FILE:LINE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def explain(place: str, as_json: bool) -> None:
    """Say what made a line of gen/, or what a line of the schema makes.

    Example: forgecore explain shop/gen/actions/product.py:42
    """
    name, line = _parts(place)
    output = make(project_folder(), builtin(), scaffolds=True)
    shown = shown_path(output, Path(name))
    for document in output.opened.documents.resources:
        if document.source.path != shown:
            continue
        if line > (count := len(document.source.text.splitlines())):
            raise click.UsageError(f"{shown} has {count} lines")
        if not document.source.line(line).partition("#")[0].strip():
            raise click.UsageError(f"no key stands at {shown}:{line}")
    if (found := made_by(output, shown, line)) is not None:
        _tell_key(output, *found, as_json=as_json)
        return
    for planned in output.plan.files:
        if output.tree.shown(planned.file.path) == shown:
            lines = lines_of(output, planned)
            if line > len(lines) - 1:  # behind the last line's end is none
                raise click.UsageError(f"{shown} has {len(lines) - 1} lines")
            _tell_line(output, shown, lines[line - 1], as_json=as_json)
            return
    known = [output.tree.shown(planned.file.path) for planned in output.plan.files]
    known += [document.source.path for document in output.opened.documents.resources]
    if shown in {output.tree.shown(answer.value.path) for answer in output.plan.scaffolds}:
        text = f"{shown} was scaffolded, and is yours since: `forgecore why {shown}`"
        raise BuildError([Diagnostic("unknown-file", None, text)])
    text = f"{shown} is neither made by a template nor a resource of the schema"
    raise BuildError([Diagnostic("unknown-file", None, text, near(shown, known))])


def _parts(place: str) -> tuple[str, int]:
    # A column, as editors and diagnostics add one, says nothing more.
    name, *numbers = place.split(":")
    if not numbers or not re.fullmatch("[0-9]{1,9}", numbers[0]) or int(numbers[0]) == 0:
        raise click.UsageError(f"a line is missing: {name}:1 (`forgecore why {name}` is of a file)")
    return name, int(numbers[0])


def _tell_line(output: Output, shown: str, line: Line, *, as_json: bool) -> None:
    states = {one.shown: one.state for one in compared(output)[0]}
    state = states.get(shown)
    if as_json:
        told = {
            "file": shown,
            "line": line.number,
            "text": line.text,
            "state": state or "as it should be",
            "written_by": [_place(place) for place in line.places],
            "keys": [_key(origin) for origin in line.origins],
        }
        click.echo(json.dumps(told))
        return
    if state is not None:
        click.echo(f"{shown} {STATES[state]}: this is the line of a new build", err=True)
    click.echo(f"{shown}:{line.number}")
    click.echo(f"    {line.text.strip()}")
    if not line.places:
        click.echo("  made by the formatter")
    for place in line.places:
        where = place.template if place.line is None else f"{place.template}:{place.line}"
        slot = f", slot {place.slot}" if place.slot else ""
        part = ", its imports or parameters" if place.line is None else ""
        click.echo(f"  template  {where}{slot}{part}")
        click.echo(f"  plugin    {place.plugin.label.removeprefix('plugin ')}")
    for origin in line.origins:
        click.echo(f"  key       {origin.span()} {_name(origin)}")


def _tell_key(output: Output, origin: Origin, found: Sequence[Made], *, as_json: bool) -> None:
    if as_json:
        files = [
            {
                "file": output.tree.shown(made.planned.file.path),
                "lines": [line.number for line in made.lines],
            }
            for made in found
        ]
        click.echo(json.dumps({"key": _key(origin), "files": files}))
        return
    click.echo(f"{origin.span()} {_name(origin)}")
    for made in found:
        shown = output.tree.shown(made.planned.file.path)
        if len(made.lines) > _FEW:
            numbers = ", ".join(_ranges([line.number for line in made.lines]))
            click.echo(f"  {shown}: lines {numbers}")
            continue
        for line in made.lines:
            click.echo(f"  {shown}:{line.number}  {line.text.strip()}")


def _place(place: Place) -> dict[str, Any]:
    return {
        "template": place.template,
        "line": place.line,
        "slot": place.slot,
        "plugin": place.plugin.name,
        "distribution": place.plugin.distribution,
        "version": place.plugin.version,
    }


def _key(origin: Origin) -> dict[str, Any]:
    span = origin.span()
    place = {"file": span.source.path, "line": span.line, "column": span.column}
    return {"key": _name(origin), **place}


def _name(origin: Origin) -> str:
    return ".".join(map(str, origin.path))


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    start = before = numbers[0]
    for number in (*numbers[1:], -1):
        if number != before + 1:
            yield str(start) if start == before else f"{start}-{before}"
            start = number
        before = number
