"""Dramatiq on the outbox: a broker, a consumer for each queue, an actor for each kind.

The limit of a queue lives in its consumer, which never claims more than is free: what is
claimed runs, and a killed process holds no more than its limits. Retry, time and delay are
the row's business, so Dramatiq's own middlewares for them stay out.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast
from uuid import NAMESPACE_URL, uuid5

import dramatiq
import psycopg
from dramatiq import Message, Middleware
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.middleware import Retries, ShutdownNotifications, TimeLimit

from forgecore.runtime import Database, connect
from forgecore_jobs.engine.compose import step_of
from forgecore_jobs.engine.floors import Claimer
from forgecore_jobs.engine.store import Settled, Store, say
from forgecore_jobs.enqueue import enqueue_step
from forgecore_jobs.job import Claim, Finished
from forgecore_jobs.settings import JobsSettings
from forgecore_jobs.worker import Worker

_SHORTEST_S: Final = 0.02
_LONGEST_S: Final = 0.5
_PAUSE_S: Final = 1.0


class RefusedMiddlewareError(Exception):
    """A middleware that cannot stand beside the row's own retries and limits."""

    def __init__(self, middleware: Middleware) -> None:
        super().__init__(
            f"{type(middleware).__name__} cannot stand beside forgecore's own retries and limits: "
            "remove it from the broker's middleware"
        )


class PostgresBroker(Broker):
    """A broker whose queues are those of [jobs.queues], read from the outbox."""

    def __init__(
        self,
        settings: JobsSettings,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(middleware=list(middleware))
        self._settings = settings
        self._limits = settings.limits
        self._workers: Mapping[str, Worker[Any]] = {}
        self._database: Database | None = None
        self.begun: set[tuple[int, int]] = set()
        """The claims that the runner was called with; it writes their outcomes."""
        self.is_draining = False
        self._store: Store | None = None
        self._worker_id: Callable[[], int] = lambda: 0

    @property
    def threads(self) -> int:
        """How many threads it takes to run as much as the limits allow."""
        return sum(self._limits[queue] for queue in self.queues)

    @property
    def has_own_middleware(self) -> bool:
        """Whether the project added middleware of its own, whose signals somebody waits for."""
        return len(self.middleware) > 1

    def declare_kinds(
        self,
        workers: Mapping[str, Worker[Any]],
        run: Callable[[Claim], BaseException | None],
        queue: str,
    ) -> None:
        """Declare the actors of kinds; their jobs are claimed from then on."""
        self._workers = workers
        for kind in workers:
            JobActor(kind, run, queue, self)

    def claimer(self) -> Claimer:
        """Return what claims jobs of the kinds that are declared."""
        settings = self._settings
        return Claimer(sorted(self._workers), settings.max_attempts, settings.limited)

    def close(self) -> None:
        """Close the connections that messages were written on."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def attach(self, store: Store, worker_id: Callable[[], int]) -> None:
        """Say what to claim with; nothing can be consumed before."""
        self._store = store
        self._worker_id = worker_id

    def add_middleware(self, middleware: Middleware, **kwargs: Any) -> None:  # noqa: ANN401
        """Add a middleware; RefusedMiddlewareError for those that the row replaces."""
        if isinstance(middleware, Retries | TimeLimit | ShutdownNotifications):
            raise RefusedMiddlewareError(middleware)
        super().add_middleware(middleware, **kwargs)

    def consume(
        self, queue_name: str, prefetch: int = 1, timeout: int = 1000
    ) -> "PostgresConsumer":
        """Return the consumer of a queue; `timeout` is in milliseconds."""
        _ = prefetch  # the limit of the queue is the only one
        if self._store is None:
            raise RuntimeError("the broker is not attached to a store")
        return PostgresConsumer(
            store=self._store,
            worker_id=self._worker_id,
            queue=queue_name,
            claimer=self.claimer(),
            limit=self._limits[queue_name],
            timeout_s=timeout / 1000,
            is_draining=lambda: self.is_draining,
            begun=self.begun,
        )

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known; that is what starts its consumer in a running worker."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Write the message's job, and those that are to follow it, in one transaction.

        It joins the transaction that is open on the project's database here, if one is; `delay`
        is in milliseconds. What follows is a pipeline's next message, and the actors of the
        options `on_success` and `on_failure`, which get the same arguments. TypeError for
        arguments that are not those of the kind.
        """
        job_id = enqueue_step(self._connected(), step_of(message, self._workers, delay))
        message.options["job_id"] = job_id
        return message

    def _connected(self) -> Database:
        if self._database is None:
            self._database = connect()
        return self._database

    def flush(self, queue_name: str) -> None:
        """Do nothing: rows are the operator's."""

    def flush_all(self) -> None:
        """Do nothing: rows are the operator's."""


class PostgresConsumer(Consumer):
    """Claims no more jobs of one queue than there are slots free."""

    def __init__(
        self,
        *,
        store: Store,
        worker_id: Callable[[], int],
        queue: str,
        claimer: Claimer,
        limit: int,
        timeout_s: float,
        is_draining: Callable[[], bool],
        begun: set[tuple[int, int]],
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._queue = queue
        self._claimer = claimer
        self._limit = limit
        self._timeout_s = timeout_s
        self._is_draining = is_draining
        self._begun = begun
        self._claimed: list[Claim] = []
        self._out = 0
        self._freed = threading.Condition()
        self._pause_s = _SHORTEST_S

    def __next__(self) -> MessageProxy | None:
        """Return the next job, or None after the timeout."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            if self._claimed:
                return MessageProxy(message_of(self._claimed.pop(0)))
            with self._freed:
                free = self._limit - self._out
            if free and not self._is_draining() and self._claim(free):
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            with self._freed:
                self._freed.wait(min(left, self._pause_s))

    def ack(self, message: MessageProxy) -> None:
        """Free the job's slot; its outcome was handed over before."""
        claim = cast("Claim", message.args[0])
        key = (claim.id, claim.attempt)
        if key in self._begun:
            self._begun.discard(key)
        else:
            self._skipped(claim)
        self._free(1)

    def nack(self, message: MessageProxy) -> None:
        """Free the job's slot; an actor that raised past the runner has no outcome to write."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Let others run what was claimed and not started."""
        claims = [cast("Claim", message.args[0]) for message in messages]
        claims += self._claimed
        self._claimed = []
        self._store.give_back(claims)
        self._free(len(claims))

    def close(self) -> None:
        """Give back what was claimed and not started. May be called twice."""
        self.requeue([])

    def _skipped(self, claim: Claim) -> None:
        """Write the outcome of a job that a middleware kept from the runner."""
        try:
            self._store.settle([Settled(claim=claim, outcome=Finished(state="cancelled"))])
            self._store.held.discard([claim])
        except psycopg.Error as error:
            say("warning", "job.not_skipped", job_id=claim.id, error=str(error).strip())

    def _claim(self, free: int) -> bool:
        worker = self._worker_id()
        try:
            found = self._claimer.claim(self._store, worker, {self._queue: free})
        except psycopg.Error as error:
            say("warning", "claims.failed", queue=self._queue, error=str(error).strip())
            self._pause_s = _PAUSE_S
            return False
        with self._freed:
            self._out += len(found)
        self._claimed = found
        self._pause_s = _SHORTEST_S if found else min(self._pause_s * 2, _LONGEST_S)
        return bool(found)

    def _free(self, count: int) -> None:
        with self._freed:
            self._out -= count
            self._freed.notify()


class JobActor(dramatiq.Actor[..., None]):
    """The actor of a kind. What it calls is the runner."""

    def __init__(
        self,
        kind: str,
        run: Callable[[Claim], BaseException | None],
        queue: str,
        broker: PostgresBroker,
    ) -> None:
        def call(claim: Claim) -> None:
            broker.begun.add((claim.id, claim.attempt))
            # The outcome is written already: this is for the signals of other middleware.
            error = run(claim)
            if error is not None and broker.has_own_middleware:
                raise error

        super().__init__(
            call,
            broker=broker,
            actor_name=kind,
            queue_name=queue,
            priority=0,
            options={},
        )


def message_of(claim: Claim) -> "Message[Any]":
    """Return the message that Dramatiq's signals and Worker know a claim by."""
    return Message(
        queue_name=claim.queue,
        actor_name=claim.kind,
        args=(claim,),
        kwargs={},
        options={"job_id": claim.id, "attempt": claim.attempt},
        message_id=str(uuid5(NAMESPACE_URL, f"forge.jobs/{claim.id}")),
    )
