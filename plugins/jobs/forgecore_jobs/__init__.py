"""Jobs in Postgres: enqueued with the record they belong to, run under Dramatiq."""

from forgecore_jobs.enqueue import (
    enqueue,
    enqueue_async,
    enqueue_chain,
    enqueue_chain_async,
    enqueue_many,
    enqueue_many_async,
    enqueues,
)
from forgecore_jobs.job import AsyncJob, Cancel, Discard, Job, JobArgs, Snooze
from forgecore_jobs.outputs import output_of, output_of_async
from forgecore_jobs.steps import Step
from forgecore_jobs.unique import Unique
from forgecore_jobs.worker import Worker, worker

__all__ = [
    "AsyncJob",
    "Cancel",
    "Discard",
    "Job",
    "JobArgs",
    "Snooze",
    "Step",
    "Unique",
    "Worker",
    "enqueue",
    "enqueue_async",
    "enqueue_chain",
    "enqueue_chain_async",
    "enqueue_many",
    "enqueue_many_async",
    "enqueues",
    "output_of",
    "output_of_async",
    "worker",
]
