"""`forgecore why`: who wrote a file, from which template, and what in the schema it is of."""

import json
from pathlib import Path
from typing import Any

import click

from forgecore.build import BuildError, Output, compared, make
from forgecore.cli.project import builtin, project_folder, shown_path
from forgecore.diagnostics import Diagnostic
from forgecore.names import near
from forgecore.plugin.host import Plugin
from forgecore.write.compare import STATES


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def why(file: Path, as_json: bool) -> None:
    """Say who makes a file, from which template, and which fragments are in it.

    Example: forgecore why shop/gen/actions/product.py
    """
    output = make(project_folder(), builtin(), scaffolds=True)
    found = _found(output, shown_path(output, file))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['path']}: {found['kind']}, {found['state']}")
    click.echo(f"  made by   {found['plugin']}")
    if found["template"]:
        click.echo(f"  template  {found['template']}")
    if found["resource"]:
        click.echo(f"  of        {found['resource']}, {found['place']}")
    for one in found["fragments"]:
        click.echo(f"  slot      {one['slot']}: {one['plugin']}, {one['template']}")


def _found(output: Output, shown: str) -> dict[str, Any]:
    states = {one.shown: f"{one.state}: it {STATES[one.state]}" for one in compared(output)[0]}
    resources = {one.name: one for one in output.ir.resources}

    def told(plugin: Plugin, template: str | None, resource: str | None) -> dict[str, Any]:
        origin = resources[resource].origin.span("name") if resource in resources else None
        return {
            "path": shown,
            "plugin": plugin.label,
            "template": template,
            "resource": resource,
            "place": str(origin) if origin else None,
            "fragments": [],
        }

    for planned in output.plan.files:
        if output.tree.shown(planned.file.path) == shown:
            found = told(planned.plugin, planned.file.template, planned.file.resource)
            found["fragments"] = [
                {
                    "slot": one.value.slot,
                    "plugin": one.plugin.label,
                    "template": one.value.template,
                }
                for group in planned.fragments.values()
                for one in group
            ]
            return {**found, "kind": "generated", "state": states.get(shown, "as it should be")}
    for answer in output.plan.scaffolds:
        if output.tree.shown(answer.value.path) == shown:
            found = told(answer.plugin, answer.value.template, answer.value.resource)
            return {**found, "kind": "scaffolded", "state": "yours"}
    known = {output.tree.shown(file.path) for file in output.files}
    if shown in known:
        core = output.opened.host.plugins[0]
        found = told(core, None, None)
        return {**found, "kind": "a package's docstring", "state": "as it should be"}
    text = f"no build makes {shown}"
    raise BuildError([Diagnostic("unknown-file", None, text, near(shown, known))])
