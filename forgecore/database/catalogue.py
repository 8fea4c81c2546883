"""The catalogue of a schema: tables, columns, constraints and indexes as the server words them."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from attrs import frozen
from psycopg import Connection, sql

SHADOW: Final = "forge_shadow"

_COLUMNS: Final = """
SELECT
    class.relname,
    attribute.attname,
    format_type(attribute.atttypid, attribute.atttypmod),
    attribute.attnotnull,
    pg_get_expr(def.adbin, def.adrelid)
FROM pg_attribute AS attribute
JOIN pg_class AS class ON class.oid = attribute.attrelid
LEFT JOIN pg_attrdef AS def
    ON def.adrelid = attribute.attrelid AND def.adnum = attribute.attnum
WHERE class.relnamespace = %(schema)s::regnamespace
    AND class.relkind IN ('r', 'p')
    AND attribute.attnum > 0
    AND NOT attribute.attisdropped
ORDER BY class.relname, attribute.attnum"""

# 18 keeps NOT NULL as constraints of the type n: the columns have said it.
_CONSTRAINTS: Final = """
SELECT
    class.relname,
    con.conname,
    pg_get_constraintdef(con.oid) || CASE WHEN con.convalidated THEN '' ELSE ' NOT VALID' END
FROM pg_constraint AS con
JOIN pg_class AS class ON class.oid = con.conrelid
WHERE class.relnamespace = %(schema)s::regnamespace AND con.contype <> 'n'
ORDER BY class.relname, con.contype DESC, con.conname"""

_INDEXES: Final = """
SELECT
    class.relname,
    index_class.relname,
    pg_get_indexdef(index.indexrelid) || CASE WHEN index.indisvalid THEN '' ELSE ' INVALID' END
FROM pg_index AS index
JOIN pg_class AS index_class ON index_class.oid = index.indexrelid
JOIN pg_class AS class ON class.oid = index.indrelid
WHERE index_class.relnamespace = %(schema)s::regnamespace
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = index.indexrelid)
ORDER BY class.relname, index_class.relname"""


@frozen
class Column:
    """A column: its type, whether it may be null, its default."""

    type: str
    not_null: bool
    default: str | None

    @property
    def definition(self) -> str:
        """Return what stands behind the column's name."""
        default = f" DEFAULT {self.default}" if self.default is not None else ""
        return f"{self.type}{default}{' NOT NULL' if self.not_null else ''}"


@frozen
class Table:
    """A table: columns in their order, constraints and indexes by name."""

    columns: Mapping[str, Column]
    constraints: Mapping[str, str]
    indexes: Mapping[str, str]


def read_catalogue(conn: Connection[Any], schema: str) -> dict[str, Table]:
    """Return the tables of `schema` by name. Must run in a transaction: it sets the search path."""
    # Names in other definitions come back qualified unless their schema is searched.
    conn.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
    columns: dict[str, dict[str, Column]] = {}
    constraints: dict[str, dict[str, str]] = {}
    indexes: dict[str, dict[str, str]] = {}
    given = {"schema": conn.execute("SELECT quote_ident(%s)", (schema,)).fetchone()}
    (quoted,) = given["schema"] or ("",)
    for table, name, kind, not_null, default in conn.execute(_COLUMNS, {"schema": quoted}):
        columns.setdefault(table, {})[name] = Column(kind, not_null, default)
    for table, name, definition in conn.execute(_CONSTRAINTS, {"schema": quoted}):
        constraints.setdefault(table, {})[name] = definition
    for table, name, definition in conn.execute(_INDEXES, {"schema": quoted}):
        indexes.setdefault(table, {})[name] = definition.replace(f"{quoted}.", "")
    return {
        table: Table(found, constraints.get(table, {}), indexes.get(table, {}))
        for table, found in columns.items()
    }


def read_both(conn: Connection[Any], ddl: str) -> tuple[dict[str, Table], dict[str, Table]]:
    """Return the live tables, and those that `ddl` would make on this very server.

    They are made in a schema that is rolled back: texts of one server version compare.
    """
    with conn.transaction(force_rollback=True):
        row = conn.execute("SELECT current_schema()").fetchone()
        schema = row[0] if row else None
        if schema is None:
            raise psycopg.errors.InvalidSchemaName("the search path names no schema that exists")
        live = read_catalogue(conn, schema)
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SHADOW)))
        conn.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(SHADOW)))
        conn.execute(ddl.encode())
        wanted = read_catalogue(conn, SHADOW)
    return live, wanted
