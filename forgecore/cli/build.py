"""`forgecore build`: from the schema to gen/, or how gen/ stands to the schema."""

from typing import Final

import click

from forgecore.cli.paint import say_error
from forgecore.location import find_project
from forgecore.remembered import remembered_build

FORMATS: Final = ("text", "json", "github", "sarif")
NOTHING: Final = "nothing to do: {total} files are as they should be"


@click.command()
@click.option("--force", is_flag=True, help="Overwrite generated files that were changed by hand.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if gen/ is not up to date.")
@click.option("--diff", is_flag=True, help="Write nothing; show what would change.")
@click.option("--dry-run", is_flag=True, help="Write nothing; name the files that would change.")
@click.option("--watch", is_flag=True, help="Build, and again whenever something is saved.")
@click.option("--explain", is_flag=True, help="Say of each file which input has changed.")
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
    watch: bool,
    explain: bool,
    without: tuple[str, ...],
    stats: bool,
    as_json_: bool,
    form: str,
) -> int:
    """Build gen/ from the schema.

    Example: forgecore build --check
    """
    form = "json" if as_json_ else form
    looks = check or diff or dry_run
    if force and looks:
        raise click.UsageError("--force writes, so it goes with none of --check, --diff, --dry-run")
    if watch and looks:
        raise click.UsageError("--watch writes, so it goes with none of --check, --diff, --dry-run")
    is_plain = form == "text" and not (looks or force or without or stats or watch)
    if is_plain and (project := find_project()) and (said := remembered_build(project)):
        for warning in said["warnings"]:
            say_error(warning)
        click.echo(NOTHING.format(total=said["total"]))
        return 0
    # A build that has something to do pays for what it imports.
    from forgecore.cli.building import Wish, run  # noqa: PLC0415 -- as said

    return run(
        Wish(
            force=force,
            check=check,
            diff=diff,
            dry_run=dry_run,
            watch=watch,
            explain=explain,
            without=without,
            stats=stats,
            form=form,
        )
    )
