"""Compose: Dramatiq's messages, with their pipelines and callbacks, as steps."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dramatiq import Message

from forgecore_jobs.engine.decode import ArgumentsError, structured
from forgecore_jobs.job import JobArgs
from forgecore_jobs.plain import plain
from forgecore_jobs.steps import Step
from forgecore_jobs.worker import Worker

_CALLBACKS = ("on_success", "on_failure")


def step_of(
    message: "Message[Any]", workers: Mapping[str, Worker[Any]], delay_ms: int | None = None
) -> Step:
    """Return a message as a step; TypeError if its arguments are not those of its kind."""
    args = _args_of(message, workers)
    followers: dict[str, list[JobArgs | Step]] = {name: [] for name in _CALLBACKS}
    for name in _CALLBACKS:
        if (kind := message.options.get(name)) is not None:
            followers[name].append(_structured(workers, kind, plain(args)))
    if (target := message.options.get("pipe_target")) is not None:
        followers["on_success"].append(step_of(Message(**target), workers))
    delay_ms = delay_ms or message.options.get("delay")
    run_at = None if delay_ms is None else datetime.now(UTC) + timedelta(milliseconds=delay_ms)
    return Step(
        args, run_at=run_at, on_success=followers["on_success"], on_failure=followers["on_failure"]
    )


def _args_of(message: "Message[Any]", workers: Mapping[str, Worker[Any]]) -> JobArgs:
    kind, given = message.actor_name, (message.args, message.kwargs)
    match given:
        case ((args,), {}) if isinstance(args, _worker_of(workers, kind).args):
            return cast("JobArgs", args)
        case ((), named):
            return _structured(workers, kind, plain(named))
        case _:
            cls = _worker_of(workers, kind).args.__name__
            raise TypeError(f"`{kind}` takes one {cls}, or its fields by their names")


def _structured(workers: Mapping[str, Worker[Any]], kind: str, args: object) -> JobArgs:
    worker = _worker_of(workers, kind)
    try:
        return cast("JobArgs", structured(worker, args))
    except ArgumentsError as error:
        raise TypeError(f"the arguments do not fit {worker.args.__name__}: {error}") from None


def _worker_of(workers: Mapping[str, Worker[Any]], kind: str) -> Worker[Any]:
    if (worker := workers.get(kind)) is None:
        raise TypeError(f"there is no worker for the kind `{kind}`")
    return worker
