"""Provenance: what made each line of a generated file, and which lines a key of the schema made."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from attrs import frozen

from forgecore.build import Output
from forgecore.render.align import imported, lines_before
from forgecore.render.files import traced
from forgecore.render.plan import PlannedFile
from forgecore.render.trace import Place
from forgecore.source import Document, KeyPath, Origin

T = TypeVar("T")


@frozen(kw_only=True)
class Line:
    """A line of a generated file: what wrote it, and the keys of the schema behind it."""

    number: int
    text: str
    places: tuple[Place, ...]
    origins: tuple[Origin, ...]


@frozen(kw_only=True)
class Made:
    """The lines of one file that came from a key."""

    planned: PlannedFile
    lines: tuple[Line, ...]


def lines_of(output: Output, planned: PlannedFile) -> list[Line]:
    """Return every line of a generated file with what made it."""
    whole = traced(planned, output.common.origins)
    path = planned.file.path
    text = output.texts[path]
    before = lines_before(whole, text, path)
    importers = _importers(planned, text) if path.endswith(".py") else {}
    imports = set(importers)
    keys = _Keys(output, planned)
    lines: list[Line] = []
    for number, (shown, old) in enumerate(zip(text.split("\n"), before, strict=True), 1):
        places = _unique([*_places(whole.places, old), *importers.get(number, ())])
        origins = keys.behind("" if number in imports else shown, places)
        lines.append(Line(number=number, text=shown, places=tuple(places), origins=tuple(origins)))
    return lines


def made_by(output: Output, shown: str, line: int) -> tuple[Origin, list[Made]] | None:
    """Return the thing that stands at a line of the schema, and all that came from it.

    None for a file that is no resource of the schema.
    """
    for document in output.opened.documents.resources:
        if document.source.path == shown:
            origin = _thing_at(output, document, line)
            every = ((planned, lines_of(output, planned)) for planned in output.plan.files)
            found = [
                Made(planned=planned, lines=tuple(one for one in lines if origin in one.origins))
                for planned, lines in every
            ]
            return origin, [made for made in found if made.lines]
    return None


class _Keys:
    """The keys of the schema behind the lines of one file."""

    def __init__(self, output: Output, planned: PlannedFile) -> None:
        self._origins = output.common.origins
        self._own: Origin | None = None
        self._named: dict[str, Origin] = {}
        if planned.file.resource is not None:
            resource = output.ir.resource(planned.file.resource)
            self._own = resource.origin
            self._named = {field.name: field.origin for field in resource.fields}
            self._named |= {one.attribute: one.origin for one in resource.relations}

    def behind(self, text: str, places: Sequence[Place]) -> list[Origin]:
        """Return what a line of these places is of: the nearest things, or its resource."""
        things = [thing for place in places for thing in place.things]
        origins = [self._origins.of(thing) for thing in things]
        found = [one for one in origins if one is not None and one != self._own]
        if not found and any(place.is_block for place in places):
            # One expression printed many lines; what each is of is in its words.
            words = re.findall(r"\w+", text)
            found = [self._named[word] for word in words if word in self._named]
        if places and not found and self._own is not None:
            found = [self._own]
        return _unique(found)


def _places(lines: Sequence[Sequence[Place]], numbers: frozenset[int]) -> Iterator[Place]:
    for number in sorted(numbers):
        if number <= len(lines):
            yield from lines[number - 1]


def _importers(planned: PlannedFile, text: str) -> dict[int, list[Place]]:
    """Return the fragments that a line imports something for."""
    places: dict[tuple[str, str, str | None], list[Place]] = {}
    for answer in planned.answers:
        fragment = answer.value
        place = Place(answer.plugin, fragment.template, None, fragment.slot, ())
        for one in fragment.imports:
            key = (one.module, one.name, one.alias) if one.name else ("", one.module, one.alias)
            places.setdefault(key, []).append(place)
    found: dict[int, list[Place]] = {}
    for key, number in imported(ast.parse(text)):
        found.setdefault(number, []).extend(places.get(key, ()))
    return found


def _thing_at(output: Output, document: Document, line: int) -> Origin:
    """Return the thing that a line is of: the longest way to a key that is one's."""
    spans = [(span.line, path) for path, span in document.keys.items() if span.line <= line]
    path: KeyPath = max(spans, key=lambda one: (one[0], len(one[1])))[1] if spans else ()
    known = _known_paths(output, document)
    for length in range(len(path), 0, -1):
        if path[:length] in known:
            return Origin(document, path[:length])
    return Origin(document, ("resource",))


def _known_paths(output: Output, document: Document) -> set[KeyPath]:
    origins = [origin for _, origin in output.common.origins.known.values()]
    for one in output.ir.resources:
        origins.append(one.origin)
        for things in (one.fields, one.relations, one.uniques, one.indexes):
            origins += [thing.origin for thing in things]
    return {origin.path for origin in origins if origin.document is document}


def _unique(things: Sequence[T]) -> list[T]:
    return [one for index, one in enumerate(things) if one not in things[:index]]
