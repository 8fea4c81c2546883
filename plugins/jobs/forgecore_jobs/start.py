"""What a project to begin with has of the plugin: a hook, its queue, and a test of it."""

from collections.abc import Collection
from typing import Final

from forgecore.plugin import Start

_CONFIG: Final = """\
[jobs.queues]
default = 10
"""
_SCHEMA: Final = """\
[[hooks.after_create]]
kind = "announce_note"
"""
_TEST: Final = """\
\"\"\"A new note is announced.\"\"\"

from forgecore.runtime import Database
from forgecore_jobs.testing import Jobs

from {name}.gen.actions.note import AnnounceNoteArgs, NoteActions
from {name}.gen.models.note import NoteCreate


def test_a_note_is_announced(db: Database, jobs: Jobs) -> None:
    with db.transaction() as tx:
        note = NoteActions(tx).create(NoteCreate(title="First"))
        jobs.assert_enqueued(AnnounceNoteArgs(note.id, None))

    assert [ran.state for ran in jobs.drain()] == ["completed"]
"""

_WORKER: Final = """\
\"\"\"Workers of Note.\"\"\"

from forgecore_jobs import Job, worker

from {name}.gen.actions.note import AnnounceNoteArgs


@worker(AnnounceNoteArgs)
def announce_note(args: AnnounceNoteArgs, job: Job) -> None:
    \"\"\"Run after the transaction that created a note.\"\"\"
    job.log.info("note.announced", id=str(args.resource_id))
"""


def start(name: str, plugins: Collection[str]) -> Start:
    """Return what the plugin adds to a new project of this name."""
    files = {"tests/test_jobs.py": _TEST.format(name=name)}
    if "scaffold" not in plugins:
        # Nobody else writes the worker that the test needs.
        files[f"{name}/resources/note/jobs.py"] = _WORKER.format(name=name)
    return Start(config=_CONFIG, schema=_SCHEMA, files=files, at_last=("forgecore jobs work",))
