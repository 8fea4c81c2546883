"""`forgecore audit`: the history of a record, and an end to what is old."""

from uuid import UUID

import click

from forgecore.runtime import connect
from forgecore.runtime.settings import read_section
from forgecore_audit.schema import AuditSettings

_SHOW = """
    SELECT changed_at, event, changed_by, was, became
    FROM forge.audit WHERE resource = %s AND record_id = %s ORDER BY changed_at, id
"""
_PRUNE = "DELETE FROM forge.audit WHERE changed_at < now() - make_interval(days => %s)"


@click.group()
def audit() -> None:
    """Show who changed what, and drop what is old.

    Example: forgecore audit prune
    """


@audit.command()
@click.argument("table")
@click.argument("record_id", type=click.UUID)
def show(table: str, record_id: UUID) -> None:
    """Print what happened to a record of a table, the oldest first.

    Example: forgecore audit show products 0197d7a4-7a0e-7bb4-a3a1-6d5d3c6cf7a1
    """
    with connect() as database, database.transaction() as tx:
        for at, event, by, was, became in tx.execute(_SHOW, (table, record_id)):
            click.echo(f"{at:%Y-%m-%d %H:%M:%S} {event} by {by or '-'}: {was} -> {became}")


@audit.command()
def prune() -> None:
    """Drop the changes that are older than [audit] keep_days.

    Example: forgecore audit prune
    """
    days = read_section(AuditSettings, "audit").keep_days
    with connect() as database, database.transaction() as tx:
        count = tx.execute(_PRUNE, (days,)).rowcount
    click.echo(f"{count} changes older than {days} days dropped")
