"""Apply migrations: plugins' first, then the project's files, each once and remembered.

Two runners at once: one waits for the other, and then finds nothing to do.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from attrs import frozen
from psycopg import Connection

from forgecore.source import SourceFile, Span

APPLICATION: Final = "application"
_FILE: Final = re.compile(r"(\d{14})_[a-z0-9_]+\.sql")
_LOCK: Final = 0x666F726765  # "forge"
_NO_TRANSACTION: Final = "-- forgecore: no transaction"

# What may hold a semicolon that ends nothing: quotes, dollar quotes, comments.
_TOKEN: Final = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|(\$\w*\$).*?\1|;", re.DOTALL
)

_PREPARE: Final = """
CREATE SCHEMA IF NOT EXISTS forge;
CREATE TABLE IF NOT EXISTS forge.migrations (
    owner text NOT NULL,
    version text NOT NULL,
    hash text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (owner, version)
)"""
_APPLIED: Final = "SELECT owner, version, hash, applied_at FROM forge.migrations"
_RECORD: Final = "INSERT INTO forge.migrations (owner, version, hash) VALUES (%s, %s, %s)"
_FORGET: Final = "DELETE FROM forge.migrations WHERE owner = %s AND version = %s"


class MigrationError(Exception):
    """A migration that cannot be applied. `span` is the place in its file, if it is known."""

    def __init__(self, text: str, span: Span | None = None) -> None:
        super().__init__(text)
        self.span = span


@frozen(kw_only=True)
class Step:
    """A migration of a plugin or of the project: `owner` is the plugin, or `application`."""

    owner: str
    version: str
    shown: str
    text: str

    @property
    def digest(self) -> str:
        """The hash that the database remembers."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@frozen(kw_only=True)
class State:
    """A step, and when it was applied; `changed` if its text is another one now."""

    step: Step
    applied_at: datetime | None
    changed: bool


def project_steps(folder: Path, project: Path) -> list[Step]:
    """Return the files of `migrations/` in the order of their names."""
    steps: list[Step] = []
    for path in sorted(folder.glob("*.sql")):
        if path.name.endswith(".down.sql"):
            continue
        shown = path.relative_to(project).as_posix()
        if not _FILE.fullmatch(path.name):
            raise MigrationError(f"{shown} is not called <yyyymmddhhmmss>_<name>.sql")
        text = _read(path, shown)
        steps.append(Step(owner=APPLICATION, version=path.stem, shown=shown, text=text))
    return steps


def states(conn: Connection[Any], steps: Sequence[Step]) -> list[State]:
    """Return each step with what the database remembers of it."""
    applied = _applied(conn)
    return [
        State(
            step=step,
            applied_at=found[1] if (found := applied.get((step.owner, step.version))) else None,
            changed=found is not None and found[0] != step.digest,
        )
        for step in steps
    ]


def forgotten(conn: Connection[Any], steps: Sequence[Step]) -> list[tuple[str, str, datetime]]:
    """Return owner, version and time of what was applied and is not among `steps` any more."""
    known = {(step.owner, step.version) for step in steps}
    applied = _applied(conn)
    return [(*key, applied[key][1]) for key in sorted(applied) if key not in known]


def up(url: str, steps: Sequence[Step]) -> Iterator[Step]:
    """Apply what has not been applied yet, and give each step that was.

    MigrationError if a file was changed after it ran, or fails; what came before it stays.
    """
    with _runner(url) as conn:
        try:
            conn.execute(_PREPARE)
        except psycopg.errors.InsufficientPrivilege as error:
            raise MigrationError(f"the role may not do this: {error}") from error
        known = states(conn, steps)
        if changed := [state.step.shown for state in known if state.changed]:
            raise MigrationError(f"changed after it was applied: {', '.join(changed)}")
        for state in known:
            if state.applied_at is None:
                step = state.step
                _carry_out(conn, step, _RECORD, (step.owner, step.version, step.digest))
                yield state.step


def down(url: str, steps: Sequence[Step], folder: Path) -> Step | None:
    """Undo the newest applied file by its down file; None if nothing is applied."""
    with _runner(url) as conn:
        own = [state for state in states(conn, steps) if state.step.owner == APPLICATION]
        newest = next((state.step for state in reversed(own) if state.applied_at), None)
        if newest is None:
            return None
        path = folder / f"{newest.version}.down.sql"
        if not path.is_file():
            raise MigrationError(f"{newest.shown} has no down file: {path.name} would be it")
        step = Step(
            owner=newest.owner,
            version=newest.version,
            shown=str(Path(newest.shown).with_name(path.name)),
            text=_read(path, path.name),
        )
        _carry_out(conn, step, _FORGET, (step.owner, step.version))
        return newest


def next_file(folder: Path, name: str, now: datetime) -> Path:
    """Return the path of a migration that stands behind the newest one."""
    newest = max((path.name[:14] for path in folder.glob("*.sql")), default="")
    stamp = now.astimezone(UTC)
    while stamp.strftime("%Y%m%d%H%M%S") <= newest:
        stamp += timedelta(seconds=1)
    return folder / f"{stamp.strftime('%Y%m%d%H%M%S')}_{name}.sql"


def write_file(folder: Path, name: str, statements: Sequence[str], now: datetime) -> Path:
    """Write a new migration file behind the newest one, and return its path."""
    folder.mkdir(exist_ok=True)
    path = next_file(folder, name, now)
    head = (
        "-- Written by `forgecore migrate diff`. Yours to change until it has run.\n"
        "SET LOCAL lock_timeout = '5s';"
    )
    path.write_text("\n\n".join([head, *statements]) + "\n", encoding="utf-8", newline="\n")
    return path


@contextmanager
def _runner(url: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        # Held by the session: it ends with the process, however that ends.
        conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        row = conn.execute("SELECT current_schema()").fetchone()
        if row is not None and row[0] == "forge":
            raise MigrationError(
                "the search path leads to the schema forge, which is forgecore's own: "
                "ALTER ROLE ... SET search_path = public"
            )
        yield conn


def _applied(conn: Connection[Any]) -> dict[tuple[str, str], tuple[str, datetime]]:
    try:
        rows = conn.execute(_APPLIED).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return {}
    return {(owner, version): (digest, at) for owner, version, digest, at in rows}


def _read(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"{shown} cannot be read: {error}") from error


def _carry_out(
    conn: Connection[Any], step: Step, remember: LiteralString, values: Sequence[str]
) -> None:
    if step.text.startswith(_NO_TRANSACTION):
        # Sent together, several statements would be one transaction all the same.
        for start, statement in statements(step.text):
            _run(conn, step, statement, start)
        conn.execute(remember, values)
        return
    with conn.transaction():
        _run(conn, step, step.text, 0)
        conn.execute(remember, values)


def _run(conn: Connection[Any], step: Step, text: str, start: int) -> None:
    try:
        conn.execute(text.encode())
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error)
        raise MigrationError(said, _place(step, error, start)) from error


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Return the statements of an SQL text, each with the offset that it begins at."""
    start = 0
    for match in _TOKEN.finditer(text):
        if match[0] == ";":
            if _meant(text[start : match.start()]):
                yield start, text[start : match.start()]
            start = match.end()
    if _meant(text[start:]):
        yield start, text[start:]


def _meant(text: str) -> bool:
    return bool(re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL).strip())


def _place(step: Step, error: psycopg.Error, start: int) -> Span:
    source = SourceFile(step.shown, step.text)
    position = start + int(error.diag.statement_position or 1) - 1
    before = step.text[:position]
    column = position - (before.rfind("\n") + 1) + 1
    return Span(source, before.count("\n") + 1, column, column + 1)
