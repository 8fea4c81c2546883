"""What a finished job kept: read by those that follow it, and by whoever waits for it."""

import json
from typing import Any, Final, cast

from psycopg import AsyncCursor, Cursor
from psycopg.rows import tuple_row

from forgecore_jobs.lend import AsyncSource, Source, lent, lent_async

_OUTPUT: Final = """
SELECT output::text FROM forge.jobs_finished
WHERE id = %s
ORDER BY finished_at DESC
LIMIT 1"""


def output_of(source: Source, job_id: int) -> Any:  # noqa: ANN401 -- whatever JSON may hold
    """Return what a job has kept as `job.output`, as JSON has it.

    None if it kept nothing, has not ended, or is not there any more.
    """
    with lent(source) as conn, Cursor(conn, row_factory=tuple_row) as cursor:
        return _value(cursor.execute(_OUTPUT, (job_id,), prepare=True).fetchone())


async def output_of_async(source: AsyncSource, job_id: int) -> Any:  # noqa: ANN401 -- as above
    """Return what a job has kept as `job.output`; see `output_of`."""
    async with lent_async(source) as conn, AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(_OUTPUT, (job_id,), prepare=True)
        return _value(await cursor.fetchone())


def _value(row: tuple[object, ...] | None) -> object:
    return None if row is None or row[0] is None else json.loads(cast("str", row[0]))
