"""Rows of a COPY into the outbox: its text form, which one f-string writes for each job."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString

from attrs import define, field

from forgecore_jobs.options import DEFAULT_PRIORITY

IDS: Final[LiteralString] = """
SELECT nextval(sequence)
FROM (SELECT pg_get_serial_sequence('forge.jobs', 'id')::regclass AS sequence) AS own,
    generate_series(1, %s)"""
"""Takes as many ids as rows: they are known before the rows are there."""

_COLUMNS: Final[tuple[LiteralString, ...]] = (
    *("kind", "queue", "tenant_id", "metadata", "priority", "max_attempts", "timeout"),
    *("backoff", "run_at"),
)
_CHUNK: Final = 500
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


@define
class Rows:
    """Jobs of these kinds on their way into the outbox."""

    kinds: tuple[str, ...]
    has_run_at: bool
    """Without one the table knows the time, the same for all rows."""
    _rows: list[tuple[str, str]] = field(factory=list[tuple[str, str]], init=False)

    def __len__(self) -> int:
        return len(self._rows)

    def head(self, values: Mapping[LiteralString, object]) -> str:
        """Return what rows with these values in all columns but id and args begin with."""
        given = {**values, "priority": _or_default(values["priority"])}
        return "\t".join(_field(given[name]) for name in self._columns)

    def add(self, head: str, args: str) -> None:
        """Add a job with its arguments as JSON."""
        self._rows.append((head, args.replace("\\", r"\\")))

    @property
    def _columns(self) -> tuple[LiteralString, ...]:
        return _COLUMNS if self.has_run_at else _COLUMNS[:-1]

    @property
    def statement(self) -> LiteralString:
        """The COPY."""
        return f"COPY forge.jobs ({', '.join(self._columns)}, id, args) FROM STDIN"

    def texts(self, ids: Sequence[int]) -> Iterable[str]:
        """Return the text of the COPY in pieces."""
        for start in range(0, len(ids), _CHUNK):
            pairs = zip(
                ids[start : start + _CHUNK], self._rows[start : start + _CHUNK], strict=True
            )
            yield "".join([f"{head}\t{job_id}\t{args}\n" for job_id, (head, args) in pairs])


def _or_default(priority: object) -> object:
    return DEFAULT_PRIORITY if priority is None else priority


def _field(value: object) -> str:
    match value:
        case None:
            return r"\N"
        case datetime():
            return value.isoformat()
        case timedelta():
            return f"{value // timedelta(microseconds=1)} microseconds"
        case _:
            return str(value).translate(_ESCAPES)
