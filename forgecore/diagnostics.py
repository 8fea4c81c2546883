"""Diagnostics: a user's mistakes, each with a code, a place, a text and what would be right."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from attrs import field, frozen, validators

from forgecore.source import Span

CODES: Final[dict[str, str]] = {
    "toml-syntax": "The file is not TOML 1.0.",
    "unreadable": "A file cannot be read, or is not UTF-8.",
    "no-project": "There is no forge.toml here or above.",
    "unknown-section": "A section of forge.toml, or a table of a resource, that nobody declared.",
    "unknown-key": "A key that nobody has declared.",
    "missing-key": "A key that must be there.",
    "wrong-type": "A value of another type than the key's.",
    "bad-value": "A value outside of what the key allows.",
    "unknown-type": "A field type that neither the core nor a plugin brings.",
    "unknown-resource": "A relation to a resource that is not in the schema.",
    "unknown-field": "A field or relation that the resource does not have.",
    "unknown-file": "A path that no build makes.",
    "unknown-revision": "A revision that git does not know, or whose schema does not build.",
    "unknown-plugin": "A plugin that is not installed.",
    "duplicate": "Two things of one name.",
    "bad-name": "A name that cannot be one: its form, its length, a keyword, a reserved name.",
    "name-collision": "Two names that become one in the generated code or in the database.",
    "bad-default": "A default that its field does not allow.",
    "bad-range": "A lower bound above the upper one.",
    "not-applicable": "A key that says nothing for a field of this type.",
    "bad-relation": "A relation that the database could not keep.",
    "environment": "An environment variable with a value that is not usable.",
    "plugin-failed": "A plugin raised, could not be imported or gave the wrong thing.",
    "plugin-order": "Plugins that want to come before each other.",
    "unknown-hook": "A hookimpl of a name that no hookspec has.",
    "path-conflict": "Two plugins that write one file.",
    "bad-path": "A path that a plugin may not write.",
    "plugin-removed": "Told by `forgecore diff`: a plugin that the older schema had.",
    "slot-conflict": "Two plugins that fill a slot which is for one.",
    "unknown-slot": "A fragment for a slot that nobody declares.",
    "bad-template": "A template that is missing, does not compile, or uses what it may not.",
    "bad-fragment": "A fragment whose text does not fit its slot.",
    "migration": "A migration that cannot be written or applied.",
    "edited": "A generated file was changed by hand.",
}
"""Every code of the core. A plugin's codes start with its name and a slash."""


@frozen
class Diagnostic:
    """A user's mistake. It is returned and collected, never raised."""

    code: str = field(validator=validators.instance_of(str))
    span: Span | None = field(validator=validators.optional(validators.instance_of(Span)))
    text: str = field(validator=validators.instance_of(str))
    suggestion: str | None = field(
        default=None, validator=validators.optional(validators.instance_of(str))
    )
    also: Sequence[tuple[Span, str]] = field(default=(), converter=tuple[tuple[Span, str], ...])
    severity: Literal["error", "warning"] = "error"

    def render(self) -> str:
        """Return the text for people: place, code, text, the line and a caret under it."""
        where = f"{self.span}: " if self.span else ""
        hint = f"; did you mean `{self.suggestion}`?" if self.suggestion else ""
        parts = [f"{where}{self.severity}[{self.code}]: {self.text}{hint}"]
        line = self.span.source.line(self.span.line) if self.span else ""
        if self.span and line and self.severity == "error":
            parts.append(_marked(line, self.span))
        parts += [f"{span}: {text}" for span, text in self.also]
        return "\n".join(parts)


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return those that stop a build."""
    return [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the diagnostics without repetitions, by file, line and column."""
    return sorted(
        dict.fromkeys(diagnostics),
        key=lambda d: (d.span.source.path, d.span.line, d.span.column) if d.span else ("", 0, 0),
    )


def _marked(line: str, span: Span) -> str:
    number = f"{span.line} | "
    before = "".join(_blank(char) for char in line[: span.column - 1])
    marked = line[span.column - 1 : span.end_column - 1] or " "
    return f"{number}{line}\n{' ' * (len(number) - 2)}| {before}{'^' * _width(marked)}"


def _blank(char: str) -> str:
    return char if char == "\t" else " " * _width(char)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
