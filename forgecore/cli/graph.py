"""`forgecore graph`: the resources, their relations, and what plugins add, as Mermaid."""

import click

from forgecore.build import BuildError, edges, make
from forgecore.cli.project import builtin, project_folder, show
from forgecore.plugin.artefacts import Edge


@click.command()
def graph() -> None:
    """Print the resources and what leads from one to another, for Mermaid.

    Example: forgecore graph > docs/schema.mmd
    """
    output = make(project_folder(), builtin())
    found, failures = edges(output)
    if failures:
        raise BuildError(failures)
    show(list(output.warnings))
    names = [resource.name for resource in output.ir.resources]
    own = [
        Edge(one.name, relation.target, relation.name)
        for one in output.ir.resources
        for relation in one.relations
    ]
    click.echo("\n".join(_mermaid(names, [*own, *found])))


def _mermaid(resources: list[str], found: list[Edge]) -> list[str]:
    others = sorted({end for edge in found for end in (edge.source, edge.target)} - {*resources})
    ids = {name: f"n{number}" for number, name in enumerate([*resources, *others])}
    return [
        "flowchart LR",
        *(f'    {ids[name]}["{_text(name)}"]' for name in resources),
        *(f'    {ids[name]}(["{_text(name)}"])' for name in others),
        *(
            f'    {ids[edge.source]} -->|"{_text(edge.label)}"| {ids[edge.target]}'
            for edge in found
        ),
    ]


def _text(text: str) -> str:
    return text.replace('"', "#quot;")
