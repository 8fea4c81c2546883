"""Where things stand in the user's files: sources, spans, and TOML with both."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import tomli
import tree_sitter_toml
from attrs import define, field, frozen
from tree_sitter import Language, Node, Parser

KeyPath = tuple[str | int, ...]
"""The way to a value: keys of tables and indexes of arrays."""

_LANGUAGE: Final = Language(tree_sitter_toml.language())
_NOT_TOML: Final = "this is not TOML"
_INLINE: Final = (
    "an inline table must stand on one line, without a comma at its end (this is TOML 1.1):"
    " write it in one line, or as a [table]"
)
_NEWER: Final = (
    (
        re.compile(r"[=,\[]\s*((?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d)(?![:\d])"),
        "a time without seconds is TOML 1.1: write its seconds",
    ),
    (
        re.compile(r"(?<!\\)(?:\\\\)*(\\(?:e|x[0-9A-Fa-f]{2}))"),
        r"`\e` and `\x` are TOML 1.1: write \u001b or \u00..",
    ),
)


@frozen
class SourceFile:
    """A file of the user: its path as messages show it, and its text."""

    path: str
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        """Return a line by its number, counted from 1."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


@frozen
class Span:
    """A place: line and columns are counted from 1, columns in characters."""

    source: SourceFile
    line: int
    column: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.source.path}:{self.line}:{self.column}"


@frozen
class SyntaxFault:
    """Something that is not TOML."""

    span: Span
    text: str


@frozen
class Parsed:
    """What a TOML file says: its values, and where each key and value stands."""

    data: Mapping[str, Any]
    keys: Mapping[KeyPath, Span]
    values: Mapping[KeyPath, Span]


@define(eq=False)
class Document:
    """A TOML file that is known to be one. It is parsed when something asks what it says."""

    source: SourceFile
    _parsed: Parsed | None = field(default=None, repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """The values."""
        return self._read().data

    @property
    def keys(self) -> Mapping[KeyPath, Span]:
        """Where each key stands."""
        return self._read().keys

    @property
    def values(self) -> Mapping[KeyPath, Span]:
        """Where each value stands."""
        return self._read().values

    def _read(self) -> Parsed:
        if self._parsed is None:
            parsed, faults = _parse(self.source)
            if parsed is None:
                raise ValueError(f"{faults[0].span}: {faults[0].text}")
            self._parsed = parsed
        return self._parsed

    def key_span(self, path: KeyPath) -> Span:
        """Return where the key at `path` stands, or the nearest table above it."""
        return self._nearest(path, self.keys, self.values)

    def value_span(self, path: KeyPath) -> Span:
        """Return where the value at `path` stands, or the nearest table above it."""
        return self._nearest(path, self.values, self.keys)

    def _nearest(self, path: KeyPath, *maps: Mapping[KeyPath, Span]) -> Span:
        for length in range(len(path), 0, -1):
            for spans in maps:
                if (span := spans.get(path[:length])) is not None:
                    return span
        return Span(self.source, 1, 1, 2)


@frozen
class Origin:
    """Where a thing of the schema was written."""

    document: Document
    path: KeyPath

    def span(self, key: str | None = None) -> Span:
        """Return the place of the thing, or of the value of one of its keys."""
        if key is None:
            return self.document.key_span(self.path)
        return self.document.value_span((*self.path, key))

    def key_span(self, key: str) -> Span:
        """Return the place of the name of one of its keys."""
        return self.document.key_span((*self.path, key))


def read_source(path: Path, shown: str) -> SourceFile:
    """Read a file; UnicodeDecodeError if it is not UTF-8, OSError as usual."""
    return SourceFile(shown, path.read_bytes().decode("utf-8-sig"))


def parse(source: SourceFile) -> tuple[Document | None, list[SyntaxFault]]:
    """Return the document, or every syntax fault of it."""
    parsed, faults = _parse(source)
    return (Document(source, parsed) if parsed else None), faults


def _parse(source: SourceFile) -> tuple[Parsed | None, list[SyntaxFault]]:
    """Return what the file says, or its syntax faults.

    tree-sitter gives places and goes on after a fault; tomli gives the values and says
    what is wrong with the first one.
    """
    text = source.text.replace("\r\n", "\n")
    encoded = text.encode()
    lines = encoded.split(b"\n")
    root = Parser(_LANGUAGE).parse(encoded).root_node
    places = _Places(source, lines)
    nodes = _errors(root) if root.has_error else ()
    faults = list(dict.fromkeys(fault for node in nodes for fault in _faults_of(node, places)))
    try:
        data = tomli.loads(text, parse_float=Decimal)
    except tomli.TOMLDecodeError as error:
        return None, _with_message(faults, source, error)
    except ValueError as error:
        # Python reads no number of thousands of digits.
        return None, [SyntaxFault(Span(source, 1, 1, 2), str(error).partition(";")[0].lower())]
    except RecursionError:
        return None, [SyntaxFault(Span(source, 1, 1, 2), "nested too deeply")]
    if faults:
        return None, faults
    spans = _Spans(places)
    spans.walk(root)
    return Parsed(data, spans.keys, spans.values), []


class _Places:
    def __init__(self, source: SourceFile, lines: Sequence[bytes]) -> None:
        self._source = source
        self._lines = lines

    def span(self, node: Node) -> Span:
        row, start = node.start_point
        end_row, end = node.end_point
        line = self._lines[row] if row < len(self._lines) else b""
        # The grammar counts bytes; people count characters.
        column = len(line[:start].decode(errors="replace")) + 1
        last = end if end_row == row else len(line)
        end_column = len(line[:last].decode(errors="replace")) + 1
        return Span(self._source, row + 1, column, max(end_column, column + 1))

    def within(self, node: Node, text: str, part: tuple[int, int]) -> Span:
        """Return the place of a part of a node's text, given as positions in it."""
        above = text[: part[0]]
        first = self.span(node)
        column = part[0] - above.rfind("\n") if "\n" in above else first.column + part[0]
        line = first.line + above.count("\n")
        return Span(self._source, line, column, column + part[1] - part[0])


def _errors(node: Node) -> Iterator[Node]:
    if node.is_error or node.is_missing:
        yield node
        return
    for child in node.children:
        if child.has_error or child.is_missing:
            yield from _errors(child)


def _faults_of(node: Node, places: _Places) -> Iterator[SyntaxFault]:
    """Give what is wrong in an error node; TOML 1.1 is what tomli reads and the grammar does not.

    One mistake may be several nodes, and one node may hold several mistakes.
    """
    around = node
    while around.parent is not None and around.parent.type not in {"document", "pair", "table"}:
        around = around.parent
    text = (around.text or b"").decode(errors="replace")
    found = False
    for pattern, said in _NEWER:
        for match in pattern.finditer(text):
            found = True
            yield SyntaxFault(places.within(around, text, match.span(1)), said)
    if not found and around.type == "inline_table":
        yield SyntaxFault(places.span(around), _INLINE)
    elif not found:
        yield SyntaxFault(places.span(node), _NOT_TOML)


def _with_message(
    faults: list[SyntaxFault], source: SourceFile, error: tomli.TOMLDecodeError
) -> list[SyntaxFault]:
    text = error.msg[:1].lower() + error.msg[1:]
    line = min(error.lineno, source.text.count("\n") + 1)
    if error.pos >= len(error.doc) and not source.line(line).strip() and line > 1:
        line -= 1
    column = error.colno if line == error.lineno else len(source.line(line)) + 1
    told = SyntaxFault(Span(source, line, column, column + 1), text)
    # The grammar takes a fault's surroundings along; what stands before it tomli has read.
    before = [one for one in faults if one.span.line < line and one.text != _NOT_TOML]
    after = [one for one in faults if one.span.line > line]
    return [*before, told, *after]


class _Spans:
    def __init__(self, places: _Places) -> None:
        self._places = places
        self.keys: dict[KeyPath, Span] = {}
        self.values: dict[KeyPath, Span] = {}
        self._counts: dict[KeyPath, int] = {}

    def walk(self, root: Node) -> None:
        for node in root.named_children:
            if node.type == "pair":
                self._pair(node, ())
            elif node.type in {"table", "table_array_element"}:
                self._table(node)

    def _table(self, node: Node) -> None:
        header, *rest = node.named_children
        path: KeyPath = ()
        parts = list(_key_parts(header))
        for index, (name, part) in enumerate(parts):
            path = (*path, name)
            last = index == len(parts) - 1
            if node.type == "table_array_element" and last:
                number = self._counts.get(path, 0)
                self._counts[path] = number + 1
                self.keys.setdefault(path, self._places.span(part))
                path = (*path, number)
                self.keys[path] = self._places.span(part)
            else:
                self.keys.setdefault(path, self._places.span(part))
                if path in self._counts:
                    path = (*path, self._counts[path] - 1)
        for child in rest:
            if child.type == "pair":
                self._pair(child, path)

    def _pair(self, node: Node, above: KeyPath) -> None:
        key, value = node.named_children[0], node.named_children[-1]
        path = above
        for name, part in _key_parts(key):
            path = (*path, name)
            self.keys.setdefault(path, self._places.span(part))
        self._value(value, path)

    def _value(self, node: Node, path: KeyPath) -> None:
        self.values[path] = self._places.span(node)
        if node.type == "inline_table":
            for child in node.named_children:
                if child.type == "pair":
                    self._pair(child, path)
        elif node.type == "array":
            elements = [child for child in node.named_children if child.type != "comment"]
            for index, child in enumerate(elements):
                self._value(child, (*path, index))


def _key_parts(node: Node) -> Iterator[tuple[str, Node]]:
    if node.type == "dotted_key":
        for child in node.named_children:
            yield from _key_parts(child)
        return
    text = (node.text or b"").decode()
    if node.type == "quoted_key":
        text = next(iter(tomli.loads(f"{text} = 0")))
    yield text, node
