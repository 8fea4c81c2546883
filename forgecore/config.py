"""The core's sections of forge.toml, and how any section becomes its class."""

from collections.abc import Mapping
from typing import Final, TypeVar, cast

from attrs import field, fields, frozen

from forgecore.diagnostics import Diagnostic
from forgecore.names import near
from forgecore.runtime.settings import (
    DatabaseSettings,
    ProjectSettings,
    from_environment,
    structure,
)
from forgecore.source import Document, Span

S = TypeVar("S")
CORE_SECTIONS: Final[Mapping[str, type]] = {
    "project": ProjectSettings,
    "database": DatabaseSettings,
}


@frozen
class Config:
    """The sections of forge.toml by their class; the environment does not act here.

    `unread` are the classes of sections that are at fault: only their sound keys are here.
    """

    sections: Mapping[type, object]
    unread: frozenset[type] = frozenset()
    document: Document | None = field(default=None, eq=False, repr=False)
    names: Mapping[type, str] = field(factory=dict[type, str], eq=False, repr=False)

    def section(self, cls: type[S]) -> S:
        """Return a section; KeyError if no plugin declared the class."""
        value = self.sections[cls]
        if not isinstance(value, cls):
            raise KeyError(cls)
        return value

    def span(self, cls: type, *path: str | int, of_key: bool = False) -> Span | None:
        """Return where a key of a section, or a key or item below it, was written."""
        if self.document is None:
            return None
        whole = (self.names[cls], *path)
        is_there = whole in self.document.values or whole in self.document.keys
        if is_there and of_key:
            return self.document.key_span(whole)
        return _place(self.document, whole) if is_there else None


def structure_section(
    document: Document | None, section: str, cls: type[S]
) -> tuple[S | None, list[Diagnostic]]:
    """Return the section as `cls`, and a diagnostic for each key at fault.

    Keys at fault have their default; None if there is none.
    """
    table: object = document.data.get(section, {}) if document else {}
    if not isinstance(table, Mapping):
        span = cast("Document", document).value_span((section,))
        value, _ = structure(cls, {})
        return value, [Diagnostic("wrong-type", span, f"[{section}] must be a table")]
    table = cast("Mapping[str, object]", table)
    value, problems = structure(cls, table)
    if value is None:
        wrong = {problem.key[0] for problem in problems if problem.key}
        value, _ = structure(cls, {key: table[key] for key in table if key not in wrong})
    if document is None:
        return value, []
    diagnostics: list[Diagnostic] = []
    for problem in problems:
        path = (section, *(int(key) if key.isdigit() else key for key in problem.key))
        path = path if path in document.keys or path in document.values else (section, *problem.key)
        if problem.unknown:
            known = [attribute.name for attribute in fields(cls)]  # type: ignore[arg-type]
            text = f"{problem.text} in [{section}]"
            suggestion = near(problem.key[-1], known)
            diagnostics.append(Diagnostic("unknown-key", document.key_span(path), text, suggestion))
        elif not problem.key:
            diagnostics.append(
                Diagnostic("missing-key", document.key_span(path), f"[{section}] {problem.text}")
            )
        else:
            name = ".".join((section, *problem.key))
            diagnostics.append(
                Diagnostic("bad-value", _place(document, path), f"`{name}` {problem.text}")
            )
    return value, diagnostics


def check_environment(sections: Mapping[str, type], environ: Mapping[str, str]) -> list[Diagnostic]:
    """Return a diagnostic for each variable of `sections` whose value is not usable."""
    return [
        Diagnostic("environment", None, f"{variable}: {text}")
        for section, cls in sections.items()
        for variable, text in from_environment(cls, section, environ)[1]
    ]


def _place(document: Document, path: tuple[str | int, ...]) -> Span:
    return document.value_span(path) if path in document.values else document.key_span(path)
