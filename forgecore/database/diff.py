"""What separates the database from the schema, and the SQL of what is new."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from forgecore.database.catalogue import Table
from forgecore.names import quoted

# Constraints and indexes of other names were made by hand, and are left alone.
_OURS: Final = re.compile(r"_(key|fkey|check|idx|pkey)$")


@frozen(kw_only=True)
class Difference:
    """`sql`: what is new. `unwritable`: what this version cannot write. `foreign`: not ours."""

    sql: tuple[str, ...]
    unwritable: tuple[str, ...]
    foreign: tuple[str, ...]
    title: str


def difference(live: Mapping[str, Table], wanted: Mapping[str, Table]) -> Difference:
    """Compare two catalogues: statements for what is new, sentences for every other change."""
    new_tables = [name for name in wanted if name not in live]
    statements = [_create(name, wanted[name]) for name in new_tables]
    common = [name for name in wanted if name in live]
    for name in common:
        statements += _new_columns(name, live[name], wanted[name])
    for name, table in wanted.items():
        known = live[name].constraints if name in live else {}
        for constraint, definition in table.constraints.items():
            late = definition.startswith("FOREIGN KEY") or name in live
            if late and constraint not in known:
                statements.append(
                    f"ALTER TABLE {quoted(name)}\n"
                    f"    ADD CONSTRAINT {quoted(constraint)} {definition};"
                )
    for name, table in wanted.items():
        known = live[name].indexes if name in live else {}
        statements += [f"{text};" for index, text in table.indexes.items() if index not in known]
    unwritable = [text for name in common for text in _unwritable(name, live[name], wanted[name])]
    return Difference(
        sql=tuple(statements),
        unwritable=tuple(unwritable),
        foreign=tuple(sorted(set(live) - set(wanted))),
        title=_title(new_tables, common, live, wanted),
    )


def _create(name: str, table: Table) -> str:
    lines = [f"{quoted(column)} {found.definition}" for column, found in table.columns.items()]
    lines += [
        f"CONSTRAINT {quoted(constraint)} {definition}"
        for constraint, definition in table.constraints.items()
        if not definition.startswith("FOREIGN KEY")
    ]
    body = ",\n    ".join(lines)
    return f"CREATE TABLE {quoted(name)} (\n    {body}\n);"


def _new_columns(name: str, live: Table, wanted: Table) -> Iterator[str]:
    for column, found in wanted.columns.items():
        if column not in live.columns:
            full = found.not_null and found.default is None
            note = (
                "-- Fails where the table has rows: fill the column before NOT NULL.\n"
                if full
                else ""
            )
            yield (
                f"{note}ALTER TABLE {quoted(name)}\n"
                f"    ADD COLUMN {quoted(column)} {found.definition};"
            )


def _unwritable(name: str, live: Table, wanted: Table) -> Iterator[str]:
    for column, found in live.columns.items():
        if column not in wanted.columns:
            yield f"{name}.{column} is in the database and not in the schema"
        elif found != wanted.columns[column]:
            was, will = found.definition, wanted.columns[column].definition
            yield f"{name}.{column} is `{was}` in the database and `{will}` in the schema"
    pairs = (
        ("constraint", live.constraints, wanted.constraints),
        ("index", live.indexes, wanted.indexes),
    )
    for kind, have, want in pairs:
        for key, definition in have.items():
            if key not in want:
                if _OURS.search(key):
                    yield f"the {kind} {key} of {name} is in the database and not in the schema"
            elif definition != want[key]:
                yield (
                    f"the {kind} {key} of {name} is `{definition}`, and `{want[key]}` in the schema"
                )


def _title(
    new: list[str], common: list[str], live: Mapping[str, Table], wanted: Mapping[str, Table]
) -> str:
    if new:
        return "create_" + ("_and_".join(new) if len(new) <= 2 else f"{len(new)}_tables")  # noqa: PLR2004
    changed = [name for name in common if live[name] != wanted[name]]
    return "change_" + "_and_".join(changed[:2]) if changed else "changes"
