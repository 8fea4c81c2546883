"""One worker process: its connections and threads around the runner."""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import FrameType
from typing import Final

import dramatiq
import psycopg
from dramatiq import Message, Middleware
from dramatiq import Worker as DramatiqWorker
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import SkipMessage

from forgecore.runtime import AsyncDatabase, Database
from forgecore.runtime.database import database_url
from forgecore.runtime.settings import DatabaseSettings, read_section
from forgecore_jobs.engine.acks import Acks
from forgecore_jobs.engine.broker import PostgresBroker, message_of
from forgecore_jobs.engine.claims import ClaimLoop
from forgecore_jobs.engine.discover import find_workers
from forgecore_jobs.engine.execute import Runner
from forgecore_jobs.engine.flag import Flag, Waited
from forgecore_jobs.engine.lease import Calls, Chores, Lease
from forgecore_jobs.engine.logs import configure_logs
from forgecore_jobs.engine.loop import EventLoop
from forgecore_jobs.engine.processes import end_with_parent
from forgecore_jobs.engine.slots import Slots, Threads
from forgecore_jobs.engine.store import Entry, Held, Settled, Store, log, say
from forgecore_jobs.engine.ticks import Ticks
from forgecore_jobs.engine.wake import Listener
from forgecore_jobs.engine.watch import Cancelled, GraceOver, LeaseLost, Run, Watch
from forgecore_jobs.job import Again, Claim, Finished
from forgecore_jobs.settings import DEFAULT_QUEUE, JobsSettings
from forgecore_jobs.wiring import project_wiring

_ACKS_S: Final = 10.0
_CLOSE_S: Final = 5.0
_FLUSHED_S: Final = 0.002
_LAST_S: Final = 0.5
_PATIENCE_S: Final = 1e6
_SWITCH_S: Final = 0.0005
_REFUSED: Final = timedelta(minutes=1)
_SKIPPED: Final = MessageProxy(Message("", "", (), {}, {}))


class Engine(Middleware):
    """What a process needs to run jobs. As a middleware it lives as long as Dramatiq's Worker."""

    def __init__(self, package: str) -> None:
        self._settings = read_section(JobsSettings, "jobs")
        self.broker = PostgresBroker(self._settings, [self])
        # The workers' modules may add middleware of their own to it.
        dramatiq.set_broker(self.broker)
        self.workers = find_workers(package)
        self.broker.declare_kinds(self.workers, self._run, DEFAULT_QUEUE)
        for queue in self._settings.limits:
            self.broker.declare_queue(queue)
        self._runner: Runner | None = None
        self._stores: list[Store] = []

    @property
    def settings(self) -> JobsSettings:
        """The section [jobs] that the process works by."""
        return self._settings

    @property
    def _has_async(self) -> bool:
        return any(worker.is_async for worker in self.workers.values())

    def start(self) -> None:
        """Reach the database and start the threads; NotMigratedError without the tables."""
        database = read_section(DatabaseSettings, "database")
        self._url = url = database_url(database)
        # Not in line for each other: claims, acknowledgements and the beat.
        held = Held()
        self._stores = [
            Store(url, name=name, held=held, prepare=database.prepare)
            for name in ("claims", "acks", "lease", "chores")
        ]
        self._claims, acks, lease, chores = self._stores
        self._watch = Watch(self._give_up)
        entry = Entry(
            limits=self._settings.limits,
            kinds=sorted(self.workers),
            timeouts={
                kind: worker.timeout.total_seconds()
                for kind, worker in self.workers.items()
                if worker.timeout is not None
            },
        )
        self._loop = EventLoop()
        calls = Calls(
            lost=lambda: self._watch.interrupt(LeaseLost),
            cancelled=lambda ids: self._watch.interrupt(Cancelled, ids),
            look=self._loop.look if self._has_async else lambda: None,
            lost_slots=lambda: self._watch.lost_slots,
        )
        self._lease = Lease(lease, entry, calls)
        self._lease.start()
        self._watch.tick = self._lease.give_up_if_late
        wiring = project_wiring()
        versions = {kind: worker.version for kind, worker in self.workers.items()}
        ticks = Ticks(chores, self._settings.periodic, wiring, versions)
        self._chores = Chores(chores, self._lease, entry, self._settings.kept, ticks)
        self._index_tenants(chores)
        self._chores.start()
        self._watch.start()
        self._acks = Acks(acks)
        self._acks.start()
        self._loop.start()
        # A job that waits for a connection has not failed, however long it waits.
        self._database = Database(url, database, timeout_s=_PATIENCE_S).open()
        self._async_database = AsyncDatabase(url, database, timeout_s=_PATIENCE_S)
        if self._has_async:
            self._loop.run(self._async_database.open())
        self.broker.attach(self._claims, lambda: self._lease.worker_id)
        self._runner = Runner(
            workers=self.workers,
            wiring=wiring,
            database=self._database,
            async_database=self._async_database,
            loop=self._loop,
            acks=self._acks,
            held=held,
            watch=self._watch,
        )

    def _index_tenants(self, store: Store) -> None:
        if any(limit.by_tenant for limit in self._settings.limited.values()):
            try:
                is_there = store.index_tenants()
            except psycopg.errors.LockNotAvailable:
                is_there = False
            if not is_there:
                log.warning("tenants.no_index", hint="see `forgecore jobs doctor`")

    def work(self, stopping: Waited) -> None:
        """Run jobs in threads and event loop of the process's own until `stopping` is set."""
        self.broker.emit_after("process_boot")
        slots = Slots(self._settings.limits)
        self._slots = slots
        self._threads = Threads(self._run_in_thread, slots.total)
        claimer = self.broker.claimer()
        claims = ClaimLoop(
            store=self._claims,
            claimer=claimer,
            slots=slots,
            worker_id=lambda: self._lease.worker_id,
            start=self._start,
            grow=self._threads.grow,
        )
        listener = Listener(self._url, claims.wake)
        slots.freed = claims.wake

        def written(queue: str) -> None:
            # What others wait for is free when its end is written, not when it ends.
            if claimer.freed(queue):
                claims.wake()

        if self._settings.limited:
            self._acks.freed = written
        claims.may_sleep = lambda: listener.is_heard
        if self._settings.listen:
            listener.start()
        thread = threading.Thread(target=claims.run, name="forge-claims", daemon=True)
        thread.start()
        while not stopping.wait(1):
            if self._watch.is_unhealthy(self._settings.limits):
                log.error("worker.unhealthy", lost_slots=self._watch.lost_slots)
                break
        claims.stop()
        listener.stop()
        thread.join(_CLOSE_S)
        self._claims.give_back(self._threads.take_back())

    def run_due(
        self, limits: Mapping[str, int] | None = None
    ) -> list[tuple[Claim, BaseException | None]]:
        """Run what is due until nothing is, one job after the other in this thread.

        `limits` are the queues to claim from, all by default. Each job is given with what it
        raised; their outcomes are written.
        """
        if self._runner is None:
            raise RuntimeError("the engine is not started")
        claimer = self.broker.claimer()
        ran: list[tuple[Claim, BaseException | None]] = []
        wanted = limits or self._settings.limits
        while claims := claimer.claim(self._claims, self._lease.worker_id, wanted):
            ran += [(claim, self._runner.run(claim)) for claim in claims]
            while self._runner.held.ids()[0]:
                time.sleep(_FLUSHED_S)
        return ran

    def finish(self, hurry: Waited) -> bool:
        """Let what runs end within the grace, give the rest back; False if a thread still runs.

        `hurry` ends the grace.
        """
        end = time.monotonic() + self._settings.grace.total_seconds()
        while self._watch.running and time.monotonic() < end and not hurry.is_set():
            hurry.wait(0.05)
        self._watch.interrupt(GraceOver)
        end = time.monotonic() + _LAST_S
        while self._watch.running and time.monotonic() < end:
            time.sleep(0.02)
        self._threads.stop()
        return not self._watch.running

    def stop(self) -> None:
        """Write what is left and end the threads."""
        if self._runner is None:
            return
        self._runner = None
        lost = self._acks.stop(_ACKS_S)
        if lost:
            log.error("acks.lost", waiting=lost)
        self._chores.stop()
        self._lease.stop()
        self._watch.stop()
        if self._has_async:
            with suppress(TimeoutError):
                self._loop.run(self._async_database.close(), timeout_s=_CLOSE_S)
        self._loop.stop()
        self._database.close()
        for store in self._stores:
            store.close()

    def before_worker_boot(self, broker: Broker, worker: "DramatiqWorker") -> None:
        """Raise the pool of threads to what the limits can ask for, and start under `dramatiq`."""
        _ = broker
        worker.worker_threads = max(worker.worker_threads, self.broker.threads)
        if self._runner is not None:
            return
        try:
            self.start()
        except Exception as error:
            # Dramatiq logs what a hook raises and goes on, deaf.
            log.error("worker.not_started", error=str(error))
            raise SystemExit(3) from error

    def before_worker_shutdown(self, broker: Broker, worker: "DramatiqWorker") -> None:
        """Claim nothing more: Dramatiq's consumers outlive its worker threads."""
        _ = broker, worker
        self.broker.is_draining = True

    def after_worker_shutdown(self, broker: Broker, worker: "DramatiqWorker") -> None:
        """Stop with the worker."""
        _ = broker, worker
        self.stop()

    def _run(self, claim: Claim) -> BaseException | None:
        if self._runner is None:
            raise RuntimeError("the engine is not started")
        return self._runner.run(claim)

    def _give_up(self, run: Run) -> None:
        if self._runner is not None:
            self._runner.give_up(run)

    def _start(self, claims: Sequence[Claim]) -> None:
        in_threads = [claim for claim in claims if not self.workers[claim.kind].is_async]
        in_loop = [claim for claim in claims if self.workers[claim.kind].is_async]
        if in_loop:
            self._loop.start_all(self._run_in_loop(claim) for claim in in_loop)
        if in_threads:
            self._threads.put(in_threads)

    def _run_in_thread(self, claim: Claim) -> None:
        try:
            if (message := self._before(claim)) is not _SKIPPED:
                self._after(message, self._run(claim))
        except BaseException as error:  # noqa: BLE001 -- ours, then, and not to be the job's loss
            self._escaped(claim, error)
        finally:
            self._slots.release(claim.queue)

    async def _run_in_loop(self, claim: Claim) -> None:
        try:
            message = self._before(claim)
            if message is not _SKIPPED and self._runner is not None:
                self._after(message, await self._runner.run_async(claim))
        except BaseException as error:  # noqa: BLE001 -- as above
            self._escaped(claim, error)
        finally:
            self._slots.release(claim.queue)

    def _escaped(self, claim: Claim, error: BaseException) -> None:
        say("error", "job.escaped", job_id=claim.id, kind=claim.kind, error=repr(type(error)))
        # An outcome that was handed over before comes first, and this one is refused.
        self._acks.put(Settled(claim=claim, outcome=Again(delay=_REFUSED)))

    def _before(self, claim: Claim) -> MessageProxy | None:
        """Tell the project's own middleware, if it has any, that a job begins."""
        if not self.broker.has_own_middleware:
            return None
        message = MessageProxy(message_of(claim))
        try:
            self.broker.emit_before("process_message", message)
        except SkipMessage:
            self._acks.put(Settled(claim=claim, outcome=Finished(state="cancelled")))
            self.broker.emit_after("skip_message", message)
            return _SKIPPED
        except BaseException as error:  # noqa: BLE001 -- what a hook does must not lose the job
            say(
                "error",
                "job.refused",
                job_id=claim.id,
                kind=claim.kind,
                by_hook=type(error).__name__,
            )
            self._acks.put(Settled(claim=claim, outcome=Again(delay=_REFUSED)))
            return _SKIPPED
        return message

    def _after(self, message: MessageProxy | None, error: BaseException | None) -> None:
        if message is None:
            return
        if error is not None:
            message.stuff_exception(error)
        self.broker.emit_after("process_message", message, result=None, exception=error)
        self.broker.emit_before("ack", message)
        self.broker.emit_after("ack", message)


def dramatiq_broker(package: str) -> PostgresBroker:
    """Return the broker for Dramatiq's command line, and make it the global one."""
    configure_logs()
    return Engine(package).broker


def work(engine: Engine) -> None:
    """Run jobs until SIGTERM or SIGINT; what runs then has the grace to end.

    A second signal ends the grace. NotMigratedError and DatabaseUnavailableError come before
    anything runs.
    """
    stopping, hurry = Flag(), Flag()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    end_with_parent()
    # What waits for an answer of the server is not to wait for a worker's computation as well.
    sys.setswitchinterval(_SWITCH_S)
    engine.start()
    log.info("worker.started", kinds=sorted(engine.workers), queues=dict(engine.settings.limits))
    engine.work(stopping)
    unhealthy = not stopping.is_set()
    log.info("worker.stopping", grace_s=engine.settings.grace.total_seconds())
    all_ended = engine.finish(hurry)
    engine.stop()
    say("info", "worker.stopped")
    sys.stderr.flush()
    if not all_ended or unhealthy:
        # A thread that does not end would keep the process: its job was given back.
        os._exit(3 if unhealthy else 0)
