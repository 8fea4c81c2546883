"""`forgecore ir`: the schema as plugins see it, for programs that are no plugins."""

import json

import click

from forgecore.build import make
from forgecore.cli.project import builtin, project_folder, show
from forgecore.published import json_schema, published


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON; there is no other form.")
@click.option("--schema", is_flag=True, help="The JSON Schema of it, instead.")
def ir(as_json: bool, schema: bool) -> None:
    """Print the schema with every default filled in, the same bytes for the same schema.

    Example: forgecore ir --json
    """
    _ = as_json
    if schema:
        click.echo(json.dumps(json_schema(), indent=2, sort_keys=True))
        return
    output = make(project_folder(), builtin())
    show(list(output.warnings))
    text = json.dumps(
        published(output.ir, output.extensions.tables), indent=2, sort_keys=True, ensure_ascii=False
    )
    click.echo(text)
