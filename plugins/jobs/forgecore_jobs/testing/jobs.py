"""Jobs: what a test says of the jobs that were enqueued, and how it runs them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import uuid4

from attrs import frozen
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from forgecore.runtime import Database
from forgecore.runtime.settings import project_package
from forgecore_jobs.arguments import encode
from forgecore_jobs.enqueue import row_of
from forgecore_jobs.insert import Node, insert_of
from forgecore_jobs.job import JobArgs

_WAITING: Final[LiteralString] = """
SELECT id, kind, queue, args, run_at, priority, tenant_id
FROM forge.jobs
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(args)s::jsonb IS NULL OR args = %(args)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
ORDER BY id"""


@frozen(kw_only=True)
class Enqueued:
    """A job that waits."""

    id: int
    kind: str
    queue: str
    args: Mapping[str, Any]
    run_at: datetime
    priority: int
    tenant_id: object


@frozen(kw_only=True)
class Ran:
    """A job that a test ran: how it stands now, and what its worker raised."""

    id: int
    kind: str
    state: str
    error: BaseException | None


class Jobs:
    """The jobs of a test's database. Inside `db.transaction()` it sees what is not committed."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def enqueued(
        self, args: JobArgs | type[JobArgs] | None = None, *, queue: str | None = None
    ) -> list[Enqueued]:
        """Return the jobs that wait: with these arguments, of this class, or all."""
        given = {
            "kind": None if args is None else args.kind,
            "args": None if args is None or isinstance(args, type) else encode(args),
            "queue": queue,
        }
        with self._db.borrow() as conn, conn.cursor(row_factory=dict_row) as cursor:
            return [Enqueued(**row) for row in cursor.execute(_WAITING, given).fetchall()]

    def assert_enqueued(
        self,
        args: JobArgs | type[JobArgs],
        *,
        queue: str | None = None,
        count: int | None = None,
    ) -> Enqueued:
        """Return the first job like that; AssertionError shows what waits if there is none.

        With `count` there must be so many.
        """
        found = self.enqueued(args, queue=queue)
        if not found or (count is not None and len(found) != count):
            wanted = "one" if count is None else f"{count}"
            where = "" if queue is None else f" in {queue}"
            text = f"{wanted} of {_named(args)}{where} wanted, {len(found)} wait{self._seen()}"
            raise AssertionError(text)
        return found[0]

    def assert_not_enqueued(
        self, args: JobArgs | type[JobArgs] | None = None, *, queue: str | None = None
    ) -> None:
        """Raise AssertionError if a job like that waits."""
        if found := self.enqueued(args, queue=queue):
            what = "no job" if args is None else f"none of {_named(args)}"
            raise AssertionError(f"{what} wanted, {len(found)} wait{self._seen()}")

    def run_one(self, args: JobArgs) -> None:
        """Write a job with these arguments and run it, and no other; raise what it raises.

        A job of a hook that waits goes on waiting.
        """
        if isinstance(args, type):
            raise TypeError(f"run_one takes arguments, not their class: {args.__name__}(...)")
        self._must_be_committed()
        queue = f"test-{uuid4()}"
        statement, params = insert_of([Node(values={**row_of(args), "queue": queue})])
        with self._db.borrow() as conn:
            conn.execute(statement, params)
        for ran in self._run({queue: 1}):
            if ran.error is not None:
                raise ran.error

    def drain(self, *, queue: str | None = None) -> list[Ran]:
        """Run what is due until nothing is, one after the other; return what was run, in order.

        A job that failed waits for its retry: move the clock to run it again. Jobs must be
        committed.
        """
        self._must_be_committed()
        return self._run(None if queue is None else {queue: 100})

    def _must_be_committed(self) -> None:
        with self._db.borrow() as conn:
            if conn.info.transaction_status is not TransactionStatus.IDLE:
                raise RuntimeError("what runs here is committed: leave `db.transaction()` first")

    def _run(self, limits: Mapping[str, int] | None) -> list[Ran]:
        from forgecore_jobs.engine.run import Engine  # noqa: PLC0415 -- a test may need no engine

        engine = Engine(project_package())
        engine.start()
        try:
            ran = engine.run_due(limits)
        finally:
            engine.stop()
        text: LiteralString = "SELECT id, state FROM forge.jobs_all WHERE id = ANY(%s)"
        with self._db.borrow() as conn:
            states = dict(conn.execute(text, ([claim.id for claim, _ in ran],)).fetchall())
        return [
            Ran(id=claim.id, kind=claim.kind, state=states[claim.id], error=error)
            for claim, error in ran
        ]

    def _seen(self) -> str:
        lines = [f"\n  {one.kind} {dict(one.args)} in {one.queue}" for one in self.enqueued()]
        return "; there are" + "".join(lines) if lines else "; none waits"


def _named(args: JobArgs | type[JobArgs]) -> str:
    return args.__name__ if isinstance(args, type) else repr(args)
