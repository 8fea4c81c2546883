"""`forgecore plugins`: who takes part in a build, and in what."""

import json
from typing import Any

import click

from forgecore.build import BuildError, Output, make, open_project
from forgecore.cli.project import builtin, project_folder, show
from forgecore.plugin.host import Host, Plugin, installed
from forgecore.times import times


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def plugins(as_json: bool) -> None:
    """List the plugins: what brings them, what they answer, what they gave.

    Example: forgecore plugins --json
    """
    folder = project_folder()
    try:
        output = make(folder, builtin(), scaffolds=True)
        host = output.opened.host
    except BuildError as error:
        # Who takes part is of interest then above all.
        output, host = None, open_project(folder, builtin()).host
        show(list(error.diagnostics))
    rows = [_row(plugin, host, output) for plugin in host.plugins]
    rows += [_off(name) for name in sorted(installed()) if name not in host.names]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['name']} ({row['distribution']} {row['version']}), {row['state']}")
        if row["state"] == "on":
            click.echo(f"  answers  {', '.join(row['hookspecs']) or 'nothing'}")
            click.echo(f"  files    {row['files']}, and {row['scaffolds']} scaffolds")
            slots = [f"{name} ({count})" for name, count in row["slots"].items()]
            click.echo(f"  slots    {', '.join(slots) or 'none'}")
            click.echo(f"  time     {row['ms']} ms")


def _row(plugin: Plugin, host: Host, output: Output | None) -> dict[str, Any]:
    spent = {name: seconds for what, name, seconds in times() if what == "plugin"}
    files = output.plan.files if output else ()
    slots: dict[str, int] = {}
    for answer in (one for file in files for group in file.fragments.values() for one in group):
        if answer.plugin == plugin:
            slots[answer.value.slot] = slots.get(answer.value.slot, 0) + 1
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": "on",
        "hookspecs": host.answers_of(plugin),
        "files": sum(file.plugin == plugin for file in files),
        "scaffolds": sum(one.plugin == plugin for one in output.plan.scaffolds) if output else 0,
        "slots": dict(sorted(slots.items())),
        "ms": round(spent.get(plugin.name, 0.0) * 1e3, 1),
    }


def _off(name: str) -> dict[str, Any]:
    found = [entry.dist for entry in installed()[name] if entry.dist is not None]
    return {
        "name": name,
        "distribution": found[0].name if found else "?",
        "version": found[0].version if found else "?",
        "state": "installed, and not in [project] plugins",
    }
