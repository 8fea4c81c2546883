"""The SQL that makes the jobs' tables, in numbered steps."""

import importlib.resources

from forgecore.plugin import Migration


def migrations() -> list[Migration]:
    """Return the steps in the order of their numbers."""
    folder = importlib.resources.files("forgecore_jobs").joinpath("migrations")
    steps: list[Migration] = []
    for path in folder.iterdir():
        number, _, name = path.name.removesuffix(".sql").partition("_")
        if path.name.endswith(".sql"):
            sql = path.read_text(encoding="utf-8")
            steps.append(Migration(number=int(number), name=name, sql=sql))
    return sorted(steps, key=lambda step: step.number)
