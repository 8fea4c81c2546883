"""Read the project's TOML files: text -> documents with spans, every syntax fault collected."""

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from forgecore.diagnostics import Diagnostic
from forgecore.source import Document, SourceFile, parse, read_source


@frozen(kw_only=True)
class Documents:
    """The files of a project. `complete` says whether every one of them could be read."""

    config: Document | None
    resources: tuple[Document, ...]
    complete: bool


def load(
    project: Path, is_known: Callable[[SourceFile], bool]
) -> tuple[Documents, list[Diagnostic]]:
    """Read forge.toml and every *.toml under schema/ of the folder `project`.

    `is_known`: whether a file of the schema, as it is, was found to be TOML before.
    """
    diagnostics: list[Diagnostic] = []
    config = _document(project / "forge.toml", "forge.toml", diagnostics, lambda _source: False)
    folder = project / "schema"
    paths = sorted((path for path in folder.rglob("*.toml") if path.is_file()), key=str)
    found = [
        _document(path, path.relative_to(project).as_posix(), diagnostics, is_known)
        for path in paths
    ]
    documents = tuple(document for document in found if document is not None)
    complete = len(documents) == len(found)
    return Documents(config=config, resources=documents, complete=complete), diagnostics


def _document(
    path: Path,
    shown: str,
    diagnostics: list[Diagnostic],
    is_known: Callable[[SourceFile], bool],
) -> Document | None:
    try:
        source = read_source(path, shown)
    except UnicodeDecodeError as error:
        text = f"{shown} is not UTF-8 (byte {error.start})"
        diagnostics.append(Diagnostic("unreadable", None, text))
        return None
    except OSError as error:
        diagnostics.append(Diagnostic("unreadable", None, f"{shown}: {error.strerror}"))
        return None
    return Document(source) if is_known(source) else _parsed(source, diagnostics)


def _parsed(source: SourceFile, diagnostics: list[Diagnostic]) -> Document | None:
    document, faults = parse(source)
    diagnostics += [Diagnostic("toml-syntax", fault.span, fault.text) for fault in faults]
    return document
