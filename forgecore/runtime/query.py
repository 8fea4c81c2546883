"""What generated statements are made of at run time: given values and partial updates."""

from collections.abc import Collection, Mapping
from typing import LiteralString

from attrs import AttrsInstance, fields
from psycopg.types.json import Jsonb

from forgecore.runtime.unset import UNSET

Params = dict[str, object]
Updatable = Mapping[str, tuple[LiteralString, LiteralString]]
"""Field -> how an update assigns it, and when it counts as changed."""


def given(data: AttrsInstance) -> Params:
    """Return the fields of an input that were given, by name."""
    values = {field.name: getattr(data, field.name) for field in fields(type(data))}
    return {name: value for name, value in values.items() if value is not UNSET}


def with_jsonb(params: Params, names: Collection[str]) -> Params:
    """Return `params` with those of `names` as the driver wants jsonb; None stays null."""
    wrapped: Params = {name: Jsonb(params[name]) for name in names if params.get(name) is not None}
    return params | wrapped


def partial(
    update: LiteralString, updatable: Updatable, changes: Mapping[str, object]
) -> LiteralString:
    """Return the statement `update` for those of `updatable` that are in `changes`."""
    # In the order of `updatable`, so that one set of fields is one prepared statement.
    parts = [parts for name, parts in updatable.items() if name in changes]
    assignments: list[LiteralString] = [assignment for assignment, _ in parts]
    differences: list[LiteralString] = [difference for _, difference in parts]
    return update.format(
        assignments=",\n        ".join(assignments),
        differences="\n            OR ".join(differences),
    )
