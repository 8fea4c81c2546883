"""Runner: decode, tenant, log, transaction, the user's function, outcome.

It is the only place where a user's function is called, whatever carries the job.
"""

import contextvars
import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Final

from attrs import evolve, frozen

from forgecore.runtime import AsyncDatabase, Database, acting
from forgecore_jobs.engine.acks import Acks
from forgecore_jobs.engine.decode import decode
from forgecore_jobs.engine.loop import EventLoop
from forgecore_jobs.engine.outcome import outcome_of, refuse_killer
from forgecore_jobs.engine.store import Held, Settled, say
from forgecore_jobs.engine.transaction import AsyncJobTransaction, JobTransaction, LeaseLostError
from forgecore_jobs.engine.watch import LeaseLost, Run, Watch
from forgecore_jobs.job import AsyncJob, Claim, Finished, GivenBack, Job, Outcome
from forgecore_jobs.wiring import Wiring
from forgecore_jobs.worker import Callback, Worker

_COMPLETED: Final = Finished(state="completed")


@frozen(kw_only=True)
class Runner:
    """Runs claims and hands their outcomes over. It raises nothing that a worker raised."""

    workers: Mapping[str, Worker[Any]]
    wiring: Wiring
    database: Database
    async_database: AsyncDatabase
    loop: EventLoop
    acks: Acks
    held: Held
    watch: Watch

    def run(self, claim: Claim) -> BaseException | None:
        """Run a claim to its outcome, in this thread or in the loop; return what it raised."""
        if self.workers[claim.kind].is_async:
            return self.loop.run(self.run_async(claim))
        # What a worker binds to its context must not reach the next job of the thread.
        return contextvars.copy_context().run(self._run, claim)

    def _run(self, claim: Claim) -> BaseException | None:
        worker = self.workers[claim.kind]
        run = self.watch.begin(claim, _timeout_s(worker, claim))
        tx = JobTransaction(self.database, run)
        job = Job(claim, tx)
        args: object = None
        try:
            args = decode(worker, claim)
            refuse_killer(claim)
            with self._around(job):
                try:
                    run.arm(tx.raw)
                    worker.function(args, job)
                finally:
                    run.disarm()
            settled = Settled(claim=claim, outcome=_completed(job))
            if not tx.is_open:
                self.acks.put(settled)
                return None
            tx.complete(settled)
            self._written(claim)
        except BaseException as error:  # noqa: BLE001 -- a border: a job never takes the thread down
            # What interrupts may have hit the line above: once, so not again.
            run.disarm()
            _undo(tx, error)
            tx.end()
            self._failed(worker, args, job, run, error)
            return run.reason or error
        finally:
            tx.end()
            self.watch.end(run)
        return None

    def _failed(
        self, worker: Worker[Any], args: object, job: Job, run: Run, error: BaseException
    ) -> None:
        outcome = self._outcome(worker, job, run, error)
        if run.is_lost:
            return
        settled = Settled(claim=run.claim, outcome=outcome)
        for callback in _callbacks(worker, args, outcome):
            # Not with the run's limit of time, which may be over.
            tx = JobTransaction(self.database, Run(run.claim, None))
            told = Job(run.claim, tx)
            try:
                with acting(tenant=job.tenant_id, user=None):
                    callback(args, told, run.reason or error)
                if tx.is_open:
                    tx.complete(settled)
                    self._written(run.claim)
                    return
            except BaseException as other:  # noqa: BLE001 -- the outcome counts without it
                _undo(tx, other)
                _callback_failed(told, callback, other)
            finally:
                tx.end()
        self.acks.put(settled)

    async def run_async(self, claim: Claim) -> BaseException | None:
        """Run a claim of an `async def` worker to its outcome; return what it raised."""
        worker = self.workers[claim.kind]
        run = self.watch.begin(claim, _timeout_s(worker, claim))
        tx = AsyncJobTransaction(self.async_database, run)
        job = AsyncJob(claim, tx)
        args: object = None
        try:
            args = decode(worker, claim)
            refuse_killer(claim)
            with self._around(job):
                try:
                    run.arm_task()
                    await worker.function(args, job)
                finally:
                    run.disarm()
            settled = Settled(claim=claim, outcome=_completed(job))
            if not tx.is_open:
                self.acks.put(settled)
                return None
            await tx.complete(settled)
            self._written(claim)
        except BaseException as error:  # noqa: BLE001 -- a border, as above
            run.disarm()
            await _undo_async(tx, error)
            tx.end()
            await self._failed_async(worker, args, job, run, error)
            return run.reason or error
        finally:
            tx.end()
            self.watch.end(run)
        return None

    async def _failed_async(
        self, worker: Worker[Any], args: object, job: AsyncJob, run: Run, error: BaseException
    ) -> None:
        outcome = self._outcome(worker, job, run, error)
        if run.is_lost:
            return
        settled = Settled(claim=run.claim, outcome=outcome)
        for callback in _callbacks(worker, args, outcome):
            tx = AsyncJobTransaction(self.async_database, Run(run.claim, None))
            told = AsyncJob(run.claim, tx)
            try:
                with acting(tenant=job.tenant_id, user=None):
                    given = callback(args, told, run.reason or error)
                    if inspect.isawaitable(given):
                        await given
                if tx.is_open:
                    await tx.complete(settled)
                    self._written(run.claim)
                    return
            except BaseException as other:  # noqa: BLE001 -- the outcome counts without it
                await _undo_async(tx, other)
                _callback_failed(told, callback, other)
            finally:
                tx.end()
        self.acks.put(settled)

    def _written(self, claim: Claim) -> None:
        self.held.discard([claim])
        self.acks.wrote(claim.queue)

    def give_up(self, run: Run) -> None:
        """Write the outcome of a run that does not end; what it still does counts for nothing."""
        if run.reason is None:
            return
        worker = self.workers[run.claim.kind]
        job = Job(run.claim, JobTransaction(self.database, run))
        outcome = self._outcome(worker, job, run, run.reason)
        self.acks.put(Settled(claim=run.claim, outcome=outcome))

    def _outcome(
        self, worker: Worker[Any], job: Job | AsyncJob, run: Run, error: BaseException
    ) -> Outcome:
        if isinstance(error, LeaseLostError) or isinstance(run.reason, LeaseLost):
            say("warning", "job.lease_lost", by=job.log)
            # The lease may have gone by without anybody taking the job: the fence decides.
            return GivenBack()
        outcome = outcome_of(error, worker, run, job)
        if isinstance(outcome, Finished) and job.output_json is not None:
            return evolve(outcome, output=job.output_json)
        return outcome

    def _around(self, job: Job | AsyncJob) -> AbstractContextManager[object]:
        tenant = acting(tenant=job.tenant_id, user=None)
        return self._all_around(tenant, job) if self.wiring.around else tenant

    @contextmanager
    def _all_around(
        self, tenant: AbstractContextManager[object], job: Job | AsyncJob
    ) -> Generator[None]:
        with ExitStack() as stack:
            stack.enter_context(tenant)
            for around in self.wiring.around:
                stack.enter_context(around(job))
            yield


def _completed(job: Job | AsyncJob) -> Finished:
    output = job.output_json
    return _COMPLETED if output is None else Finished(state="completed", output=output)


def _timeout_s(worker: Worker[Any], claim: Claim) -> float | None:
    if claim.timeout_s is not None:
        return claim.timeout_s
    return None if worker.timeout is None else worker.timeout.total_seconds()


def _callbacks(worker: Worker[Any], args: object, outcome: Outcome) -> list[Callback]:
    # Without arguments of their class there is nothing to call them with.
    if args is None or outcome.failure is None:
        return []
    is_discarded = isinstance(outcome, Finished) and outcome.state == "discarded"
    found = [worker.on_error, worker.on_discard if is_discarded else None]
    return [callback for callback in found if callback is not None]


def _callback_failed(
    job: Job | AsyncJob, callback: Callable[..., object], error: BaseException
) -> None:
    # Whatever an exception does when it is looked at, the outcome is still to be written.
    with suppress(Exception):
        name = getattr(callback, "__qualname__", type(callback).__name__)
        said = f"{type(error).__qualname__}: {error}"
        say("error", "job.callback_failed", by=job.log, callback=name, error=said, exc_info=error)


def _undo(tx: JobTransaction, error: BaseException) -> None:
    try:
        tx.undo(error)
    except BaseException as other:  # noqa: BLE001 -- the server has rolled back by itself
        say("warning", "job.rollback_failed", error=str(other).strip())


async def _undo_async(tx: AsyncJobTransaction, error: BaseException) -> None:
    try:
        await tx.undo(error)
    except BaseException as other:  # noqa: BLE001 -- the server has rolled back by itself
        say("warning", "job.rollback_failed", error=str(other).strip())
