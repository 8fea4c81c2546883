"""One worker process: its connections and threads around the runner, under Dramatiq's Worker."""

import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Final

import dramatiq
from dramatiq import Middleware
from dramatiq import Worker as DramatiqWorker
from dramatiq.broker import Broker

from forgecore.runtime import AsyncDatabase, Database
from forgecore.runtime.database import database_url
from forgecore.runtime.settings import DatabaseSettings, read_section
from forgecore_jobs.engine.acks import Acks
from forgecore_jobs.engine.broker import PostgresBroker
from forgecore_jobs.engine.discover import find_workers
from forgecore_jobs.engine.execute import EventLoop, Runner
from forgecore_jobs.engine.lease import Lease
from forgecore_jobs.engine.logs import configure_logs
from forgecore_jobs.engine.store import Held, Store, log
from forgecore_jobs.job import Claim
from forgecore_jobs.settings import DEFAULT_QUEUE, JobsSettings
from forgecore_jobs.wiring import project_wiring

_GRACE_S: Final = 30.0
_ACKS_S: Final = 10.0
_CLOSE_S: Final = 5.0
_PATIENCE_S: Final = 1e6


class Engine(Middleware):
    """What a process needs to run jobs. As a middleware it starts and stops with the worker."""

    def __init__(self, package: str) -> None:
        self._settings = read_section(JobsSettings, "jobs")
        self.workers = find_workers(package)
        self.broker = PostgresBroker(self._settings.limits, self._settings.max_attempts, [self])
        for worker in self.workers.values():
            self.broker.declare_kind(worker, self._run, DEFAULT_QUEUE)
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
        url = database_url(database)
        # Not in line for each other: claims, acknowledgements and the beat.
        held = Held()
        self._stores = [Store(url, name=name, held=held) for name in ("claims", "acks", "lease")]
        claims, acks, lease = self._stores
        self._lease = Lease(lease, sorted(self.workers))
        self._lease.start()
        self._acks = Acks(acks)
        self._acks.start()
        self._loop = EventLoop()
        self._loop.start()
        # A job that waits for a connection has not failed, however long it waits.
        self._database = Database(url, database, timeout_s=_PATIENCE_S).open()
        self._async_database = AsyncDatabase(url, database, timeout_s=_PATIENCE_S)
        if self._has_async:
            self._loop.run(self._async_database.open())
        self.broker.attach(claims, lambda: self._lease.worker_id)
        self._runner = Runner(
            workers=self.workers,
            wiring=project_wiring(),
            database=self._database,
            async_database=self._async_database,
            loop=self._loop,
            acks=self._acks,
            held=held,
        )

    def stop(self) -> None:
        """Write what is left and end the threads."""
        if self._runner is None:
            return
        self._runner = None
        lost = self._acks.stop(_ACKS_S)
        if lost:
            log.error("acks.lost", waiting=lost)
        self._lease.stop()
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

    def _run(self, claim: Claim) -> None:
        if self._runner is None:
            raise RuntimeError("the engine is not started")
        self._runner.run(claim)


def dramatiq_broker(package: str) -> PostgresBroker:
    """Return the broker for Dramatiq's command line, and make it the global one."""
    configure_logs()
    broker = Engine(package).broker
    dramatiq.set_broker(broker)
    return broker


def work(engine: Engine) -> None:
    """Run jobs until SIGTERM or SIGINT; what runs then has the grace to end.

    NotMigratedError and DatabaseUnavailableError come before anything runs.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    engine.start()
    worker = DramatiqWorker(engine.broker, worker_threads=1, worker_timeout=500)
    worker.start()
    log.info("worker.started", kinds=sorted(engine.workers), queues=dict(engine.settings.limits))
    stopped.wait()
    log.info("worker.stopping", grace_s=_GRACE_S)
    worker.stop(timeout=int(_GRACE_S * 1000))
    log.info("worker.stopped")
