"""`forgecore diff`: what changed since a revision, and what of it breaks something."""

import json
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from attrs import evolve, frozen

from forgecore.build import BuildError, Structured, changes, structured
from forgecore.cli.build import FORMATS
from forgecore.cli.project import INPUT, EnvironmentFailedError, builtin, project_folder
from forgecore.cli.report import as_github, as_sarif
from forgecore.diagnostics import Diagnostic
from forgecore.plugin.artefacts import SchemaChange
from forgecore.source import SourceFile

_ORDER: Final = ("breaks", "locks", "safe")


@frozen
class _Older(SourceFile):
    """A file as the revision has it."""


@click.command()
@click.argument("revision", metavar="REV")
@click.option(
    "--allow",
    multiple=True,
    metavar="CODE[:SUBJECT]",
    help="Let a change pass that breaks something: of that code, or of one subject. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", help="How findings are told."
)
def diff(revision: str, allow: tuple[str, ...], as_json: bool, form: str) -> int:
    """Compare the schema with the one of a git revision; exit 1 if something breaks.

    Example: forgecore diff main
    """
    project = project_folder()
    after = structured(project, builtin())
    with _checked_out(project, revision) as folder:
        before = _older(folder, revision)
        found, failures = changes(before, after)
    if failures:
        raise BuildError(failures)
    found += [
        SchemaChange(
            code="plugin-removed",
            subject=name,
            text=f"the plugin {name} goes, and all that it adds: nobody is left to say what",
            effect="breaks",
        )
        for name in before.opened.host.names
        if name not in after.opened.host.names
    ]
    found = sorted(found, key=lambda one: (_ORDER.index(one.effect), one.subject, one.code))
    _tell_unused(allow, found)
    breaking = sum(_stops(one, allow) for one in found)
    documents = before.opened.documents
    older = [one.source for one in (documents.config, *documents.resources) if one is not None]
    found = [_placed(one, older, revision) for one in found]
    _tell("json" if as_json else form, found, allow, breaking)
    return INPUT if breaking else 0


@contextmanager
def _checked_out(project: Path, revision: str) -> Iterator[Path]:
    """Give a folder with forge.toml and the schema as they are in a revision."""
    if revision.startswith("-"):
        raise click.UsageError(f"{revision} is no revision")
    listed = _git(project, "ls-tree", "-r", "-z", revision, "--", "forge.toml", "schema")
    entries = [entry.split("\t", 1) for entry in listed.decode().split("\0") if entry]
    blobs = {path: head.split() for head, path in entries if path.endswith(".toml")}
    links = sorted(path for head, path in entries if head.startswith("120000"))
    if links or "forge.toml" not in blobs:
        said = f"{links[0]} is a link there" if links else "it has no forge.toml"
        text = f"{revision} cannot be compared: {said}"
        raise BuildError([Diagnostic("unknown-revision", None, text)])
    with tempfile.TemporaryDirectory(prefix="forge-diff-") as name:
        # A project without a name is called as its folder is.
        folder = Path(name) / project.name
        digests = [digest for _, _, digest in blobs.values()]
        for path, content in zip(blobs, _contents(project, digests), strict=True):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        yield folder


def _contents(project: Path, digests: Sequence[str]) -> Iterator[bytes]:
    """Give the contents of blobs, by one process for all of them."""
    rest = _git(project, "cat-file", "--batch", given="\n".join(digests).encode() + b"\n")
    for _ in digests:
        head, _, rest = rest.partition(b"\n")
        size = int(head.split()[-1])
        yield rest[:size]
        rest = rest[size + 1 :]


def _git(project: Path, *arguments: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 -- the one that is on the path
            cwd=project,
            input=given,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise EnvironmentFailedError("there is no git on this machine") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ")
        raise BuildError([Diagnostic("unknown-revision", None, f"git says: {said}")])
    return done.stdout


def _older(folder: Path, revision: str) -> Structured:
    try:
        return structured(folder, builtin())
    except BuildError as error:
        first = Diagnostic(
            "unknown-revision", None, f"the schema of {revision} does not build; it says:"
        )
        raise BuildError([first, *error.diagnostics]) from error


def _is_allowed(change: SchemaChange, allow: Collection[str]) -> bool:
    return change.code in allow or f"{change.code}:{change.subject}" in allow


def _stops(change: SchemaChange, allow: Collection[str]) -> bool:
    return change.effect == "breaks" and not _is_allowed(change, allow)


def _passes(change: SchemaChange, allow: Collection[str]) -> bool:
    return change.effect == "breaks" and _is_allowed(change, allow)


def _placed(change: SchemaChange, older: Iterable[SourceFile], revision: str) -> SchemaChange:
    """Return the change; what is gone stands in the file as the revision has it."""
    span = change.span
    if span is None or not any(span.source is source for source in older):
        return change
    source = _Older(f"{revision}:{span.source.path}", span.source.text)
    return evolve(change, span=evolve(span, source=source))


def _tell_unused(allow: Iterable[str], found: Sequence[SchemaChange]) -> None:
    for one in allow:
        if not any(_is_allowed(change, (one,)) for change in found):
            click.echo(f"--allow {one}: nothing of that has changed", err=True)


def _tell(form: str, found: Sequence[SchemaChange], allow: Collection[str], breaking: int) -> None:
    diagnostics = [
        Diagnostic(
            one.code,
            # What is gone has no line in the file as it is.
            None if one.span and isinstance(one.span.source, _Older) else one.span,
            one.text,
            severity="error" if _stops(one, allow) else "warning",
        )
        for one in found
        if one.effect != "safe"
    ]
    match form:
        case "json":
            told = [_plain(one, allow) for one in found]
            click.echo(json.dumps({"changes": told, "breaking": breaking}))
        case "github":
            click.echo(as_github(diagnostics))
        case "sarif":
            click.echo(as_sarif(diagnostics))
        case _:
            for one in found:
                where = f"{one.span}: " if one.span else ""
                effect = "allowed" if _passes(one, allow) else one.effect
                click.echo(f"{effect:<7} {where}{one.text} [{one.code}:{one.subject}]")
            click.echo(_summary(found, breaking))


def _plain(one: SchemaChange, allow: Collection[str]) -> dict[str, Any]:
    span = one.span
    return {
        "code": one.code,
        "subject": one.subject,
        "effect": one.effect,
        "allowed": _passes(one, allow),
        "text": one.text,
        "file": span.source.path if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
    }


def _summary(found: Sequence[SchemaChange], breaking: int) -> str:
    if not found:
        return "nothing has changed that matters to data, callers or jobs"
    counts = [sum(one.effect == effect for one in found) for effect in _ORDER]
    text = f"{counts[0]} break something, {counts[1]} lock a table, {counts[2]} are safe"
    return text + (": `--allow CODE` lets one pass" if breaking else "")
