"""Find the workers of a project: every resources/*/jobs.py is imported."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from forgecore.location import find_project
from forgecore_jobs.worker import Worker, registered


class WorkersError(Exception):
    """Workers that cannot be used; the text has one line for each fault, with its place."""


def find_workers(package: str) -> dict[str, Worker[Any]]:
    """Import the workers of `package` and return them by kind and alias.

    WorkersError names every fault.
    """
    make_importable()
    importlib.invalidate_caches()
    faults: list[str] = []
    for path in _modules(package):
        name = f"{package}.resources.{path.parent.name}.jobs"
        try:
            importlib.import_module(name)
        except SyntaxError as error:
            faults.append(f"{error.filename}:{error.lineno}: {error.msg}")
        except Exception as error:  # noqa: BLE001 -- a border: the user's module is named
            faults.append(f"{_place(error, path)}: {type(error).__name__}: {error}")
    workers: dict[str, Worker[Any]] = {}
    for worker in registered:
        if not worker.function.__module__.startswith(f"{package}."):
            continue
        for kind in worker.kinds:
            other = workers.setdefault(kind, worker)
            if other is not worker:
                faults.append(f"{worker.place}: `{kind}` has a worker already: {other.place}")
    if faults:
        raise WorkersError("\n".join(faults))
    return workers


def make_importable() -> None:
    """Put the project's folder on the path, as commands and tests are started from anywhere."""
    project = find_project()
    if project is not None:
        folder = str(project / "src" if (project / "src").is_dir() else project)
        if folder not in sys.path:
            sys.path.insert(0, folder)


def _modules(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WorkersError(f"there is no package `{package}`: run `forgecore build`")
    return [
        path
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder, "resources").glob("*/jobs.py"))
    ]


def _place(error: Exception, path: Path) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)
