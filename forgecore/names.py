"""Names: one function for each way to spell them, and what may not be a name."""

import difflib
import hashlib
import keyword
import re
from collections.abc import Iterable
from typing import Final

LONGEST: Final = 63
"""Bytes of a Postgres identifier."""

_SNAKE: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_PASCAL: Final = re.compile(r"[A-Z][A-Za-z0-9]*")
# Every word of pg_get_keywords() on 18 that cannot stand for any name unquoted.
_SQL_WORDS: Final = frozenset(
    "all analyse analyze and any array as asc asymmetric authorization between bigint binary bit "
    "boolean both case cast char character check coalesce collate collation column concurrently "
    "constraint create cross current_catalog current_date current_role current_schema "
    "current_time current_timestamp current_user dec decimal default deferrable desc distinct do "
    "else end except exists extract false fetch float for foreign freeze from full grant greatest "
    "group grouping having ilike in initially inner inout int integer intersect interval into is "
    "isnull join json json_array json_arrayagg json_exists json_object json_objectagg json_query "
    "json_scalar json_serialize json_table json_value lateral leading least left like limit "
    "localtime localtimestamp merge_action national natural nchar none normalize not notnull null "
    "nullif numeric offset on only or order out outer overlaps overlay placing position precision "
    "primary real references returning right row select session_user setof similar smallint some "
    "substring symmetric system_user table tablesample then time timestamp to trailing treat trim "
    "true union unique user using values varchar variadic verbose when where window with "
    "xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot "
    "xmlserialize xmltable".split()
)


def snake(name: str) -> str:
    """Return a PascalCase name in snake_case: OrderItem -> order_item, HTTPRoute -> http_route."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def pascal(name: str) -> str:
    """Return a snake_case name in PascalCase: order_item -> OrderItem."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def plural(name: str) -> str:
    """Return the plural of a snake_case name; nothing is irregular: `persons`, `categories`."""
    if re.search(r"[^aeiou_]y$", name):
        return name[:-1] + "ies"
    if re.search(r"(s|x|z|ch|sh)$", name):
        return name + "es"
    return name + "s"


def words(name: str) -> str:
    """Return a snake_case name as words: order_item -> order item."""
    return name.replace("_", " ")


def quoted(name: str) -> str:
    """Return an identifier as SQL wants it: quoted only where it must be."""
    if _SNAKE.fullmatch(name) and name not in _SQL_WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def string_literal(text: str) -> str:
    """Return `text` as a Python literal in double quotes."""
    body = repr(text)[1:-1]
    if repr(text)[0] == "'":
        body = body.replace("\\'", "'").replace('"', '\\"')
    return f'"{body}"'


def constraint(table: str, columns: Iterable[str], kind: str) -> str:
    """Return `<table>_<columns>_<kind>`, cut at 63 bytes with a hash of the whole."""
    name = "_".join((table, *columns, kind))
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    ending = f"_{digest}_{kind}"
    return name.encode()[: LONGEST - len(ending)].decode(errors="ignore") + ending


def near(word: str, known: Iterable[str]) -> str | None:
    """Return the name of `known` that `word` was likely meant to be."""
    matches = difflib.get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    return matches[0] if matches else None


def fault_of_snake(name: str, *, longest: int = LONGEST) -> str | None:
    """Return what keeps `name` from being a snake_case name, or None."""
    if not name:
        return "is empty"
    if not _SNAKE.fullmatch(name):
        return "is not in snake_case (letters a to z, digits, single underscores)"
    return _fault(name, longest)


def fault_of_pascal(name: str) -> str | None:
    """Return what keeps `name` from being a PascalCase name, or None."""
    if not name:
        return "is empty"
    if not _PASCAL.fullmatch(name):
        return "is not in PascalCase (an upper-case letter, then letters and digits)"
    return _fault(name, LONGEST) or _fault(snake(name), LONGEST)


def _fault(name: str, longest: int) -> str | None:
    if keyword.iskeyword(name):
        return f"would be the Python keyword `{name}`"
    if len(name.encode()) > longest:
        return f"is longer than {longest} bytes"
    return None
