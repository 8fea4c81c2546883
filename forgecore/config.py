"""The core's sections of forge.toml, and how any section becomes its class."""

from collections.abc import Mapping
from typing import Final, TypeVar

from attrs import fields, frozen

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
    """The sections of forge.toml by their class; the environment does not act here."""

    sections: Mapping[type, object]

    def section(self, cls: type[S]) -> S:
        """Return a section; KeyError if no plugin declared the class."""
        value = self.sections[cls]
        if not isinstance(value, cls):
            raise KeyError(cls)
        return value


def structure_section(
    document: Document, section: str, cls: type[S]
) -> tuple[S | None, list[Diagnostic]]:
    """Return the section of `document` as `cls`, or a diagnostic for each key at fault."""
    table = document.data.get(section, {})
    if not isinstance(table, Mapping):
        span = document.value_span((section,))
        return None, [Diagnostic("wrong-type", span, f"[{section}] must be a table")]
    value, problems = structure(cls, table)
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
