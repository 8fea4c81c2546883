"""Trace: where each line of a rendered text comes from: plugin, template, and what it is of.

A template is rendered into a `Tracer` in place of a buffer. Whatever writes is a line of the
template's compiled module, and Mako knows of which line of the template that one was made.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import FrameType
from typing import Any, Final

import attrs
from attrs import evolve, frozen
from mako.runtime import Context
from mako.template import ModuleInfo

from forgecore.ir import Origins, Resource
from forgecore.plugin.host import Plugin
from forgecore.render.templates import Compiled, failure
from forgecore.render.text import Block

_CONTROL: Final = re.compile(r"\s*%(?!%)\s*(?:for\s+(.+?)\s+in\b|(end)?(\w+))")
_TEXT: Final = re.compile(r"\s*__M_writer\(['\"]")


@frozen
class Place:
    """What wrote a part of a line: the line of a template, and the things that it was of.

    `slot` is the one that the template fills, `things` are of the IR. A parameter of a
    statement is of a fragment as a whole, and has no `line`. `is_block`: one expression wrote
    it that may write many lines.
    """

    plugin: Plugin
    template: str
    line: int | None
    slot: str | None
    things: tuple[object, ...]
    is_block: bool = False


Lines = Sequence[tuple[Place, ...]]
"""For each line of a text, what wrote it."""


class Traced(Block):
    """Text with the places of its lines."""

    places: Lines

    @classmethod
    def of(cls, text: str, places: Lines) -> "Traced":
        """Return `text` with its places."""
        traced = cls(text)
        traced.places = places
        return traced


class Tracer:
    """A buffer for one rendering of one template by one plugin."""

    def __init__(
        self, compiled: Compiled, plugin: Plugin, slot: str | None, view: object, origins: Origins
    ) -> None:
        self._compiled = compiled
        self._plugin = plugin
        self._slot = slot
        self._origins = origins
        self._things = things_of(view, origins)
        self._map, self._code = _line_map(compiled)
        self._loops = _loops(compiled.source)
        self._parts: list[str] = []
        self._lines: list[list[Place]] = [[]]
        self._blocks: set[int] = set()

    def render(self, names: Mapping[str, object]) -> Traced:
        """Render the template; TemplateError as `Compiled.render` raises it."""
        template = self._compiled.template
        context = Context(self, **names)
        context._outputting_as_unicode = True  # noqa: SLF001 -- as Mako's own render does
        try:
            template.render_context(context)
        except Exception as error:
            raise failure(self._compiled, error) from error
        lines = [tuple(self._marked(place) for place in places) for places in self._lines]
        return Traced.of("".join(self._parts), lines)

    def write(self, text: str) -> None:
        """Take what the template's module writes."""
        frame = sys._getframe(1)  # noqa: SLF001 -- who writes is what this is about
        number = frame.f_lineno
        line = self._map[min(number, len(self._map)) - 1]
        is_text = _TEXT.match(self._code[number - 1]) is not None
        given = text.places if isinstance(text, Traced) else None
        if given is None and isinstance(text, Block):
            self._blocks.add(line)
        parts = text.split("\n")
        for index, part in enumerate(parts):
            if index:
                self._lines.append([])
            if part.strip() or 0 < index < len(parts) - 1:
                if given is not None:
                    places: Iterable[Place] = given[index]
                else:
                    of = line + index if is_text else line
                    places = [self._place(of, frame)]
                self._lines[-1] += [one for one in places if one not in self._lines[-1]]
        self._parts.append(text)

    def _marked(self, place: Place) -> Place:
        is_own = place.template == self._compiled.name and place.slot == self._slot
        return evolve(place, is_block=True) if is_own and place.line in self._blocks else place

    def _place(self, line: int, frame: FrameType) -> Place:
        things = self._things
        for name in self._loops.get(line, ()):
            things = things_of(frame.f_locals.get(name), self._origins) or things
        return Place(self._plugin, self._compiled.name, line, self._slot, things)


def joined(parts: Sequence[str]) -> Block:
    """Return the parts one behind the other, with the places of those that have some."""
    text = "".join(parts)
    if not any(isinstance(part, Traced) for part in parts):
        return Block(text)
    lines: list[tuple[Place, ...]] = [()]
    for part in parts:
        given = part.places if isinstance(part, Traced) else [()] * (part.count("\n") + 1)
        lines[-1] = (*lines[-1], *(one for one in given[0] if one not in lines[-1]))
        lines += given[1:]
    return Traced.of(text, lines)


def changed(old: str, new: str, skipped: int = 0) -> Block:
    """Return `new`, made of the lines of `old` behind the first `skipped`, with its places."""
    if not isinstance(old, Traced):
        return Block(new)
    return Traced.of(new, old.places[skipped : skipped + new.count("\n") + 1])


def things_of(value: object, origins: Origins) -> tuple[object, ...]:
    """Return the things of the IR that a value is, or has as attributes."""
    if origins.of(value) is not None:
        return (value,)
    own = [one for one in _parts(value) if origins.of(one) is not None]
    listed = [one for part in _parts(value) if isinstance(part, tuple) for one in part]
    # A field says more than the resource that it is of, and one thing more than a list.
    exact = [one for one in own if not isinstance(one, Resource)]
    return tuple(exact or [one for one in listed if origins.of(one) is not None] or own)


def _parts(value: object) -> list[Any]:
    cls: Any = type(value)
    return [getattr(value, one.name) for one in attrs.fields(cls)] if attrs.has(cls) else []


def _line_map(compiled: Compiled) -> tuple[Sequence[int], Sequence[str]]:
    code: str = compiled.template.code
    found: dict[str, Any] = ModuleInfo.get_module_source_metadata(code, full_line_map=True)
    lines: list[int] = found["full_line_map"]
    return [*lines, found["line_map"][len(lines) + 1]], code.splitlines()


@lru_cache(maxsize=256)
def _loops(source: str) -> Mapping[int, tuple[str, ...]]:
    """Return the variables of the loops around each line of a template, the outermost first."""
    around: dict[int, tuple[str, ...]] = {}
    stack: list[tuple[str, ...]] = []
    for number, line in enumerate(source.splitlines(), 1):
        match = _CONTROL.match(line)
        if match is None:
            around[number] = tuple(name for names in stack for name in names)
        elif match[1]:
            stack.append(tuple(re.findall(r"\w+", match[1])))
        elif match[2] and stack:
            stack.pop()
        elif match[3] in {"if", "while", "with", "try"}:
            stack.append(())
    return around
