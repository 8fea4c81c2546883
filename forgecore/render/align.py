"""Align: which lines of a text became which lines of the same text when it was formatted.

A formatter breaks and joins lines, adds and drops commas and parentheses, and spells strings
anew; imports are sorted. It changes nothing else, so tokens are met in their order.
"""

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

_LAYOUT: Final = frozenset(
    {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
_SPELT: Final = {"STRING": "''", "COMMENT": "#", "FSTRING_START": "f'", "FSTRING_END": "'"}
_AHEAD: Final = 8
"""Tokens to look ahead for the place where two texts meet again."""


@frozen
class _Token:
    text: str
    first: int
    last: int


def lines_before(raw: str, formatted: str, path: str) -> list[frozenset[int]]:
    """Return, for each line of `formatted`, the lines of `raw` that it was made of, from 1.

    A line that only the formatter made, such as a blank one, has none.
    """
    lines = [frozenset[int]() for _ in range(formatted.count("\n") + 1)]
    if not path.endswith(".py"):
        return [frozenset({number}) for number in range(1, len(lines) + 1)]
    before, after = ast.parse(raw), ast.parse(formatted)
    found: list[set[int]] = [set() for _ in lines]
    places = dict(imported(before))
    for name, number in imported(after):
        # The formatter may have been told to add one.
        found[number - 1] |= {places[name]} if name in places else set()
    for node in _statements(after):
        # The parentheses around names that the formatter broke.
        for number in (node.lineno, node.end_lineno or node.lineno):
            found[number - 1] |= found[node.lineno - 1] or found[node.lineno]
    pairs = _pairs(list(_tokens(raw, before)), list(_tokens(formatted, after)))
    for old, new in pairs:
        whole = old.last - old.first == new.last - new.first
        for offset in range(new.last - new.first + 1):
            step = min(offset, old.last - old.first) if not whole else offset
            found[new.first - 1 + offset].add(old.first + step)
    return [frozenset(one) for one in found]


def imported(tree: ast.Module) -> Iterator[tuple[tuple[str, str, str | None], int]]:
    """Give each name that the module imports at its top, with its line."""
    for node in _statements(tree):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            yield (module, alias.name, alias.asname), alias.lineno


def _statements(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    yield from (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def _tokens(text: str, tree: ast.Module) -> Iterator[_Token]:
    skipped = {
        number
        for node in _statements(tree)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _LAYOUT or token.start[0] in skipped:
            continue
        # Quotes and the space in front of a comment's text are the formatter's.
        spelt = _SPELT.get(tokenize.tok_name[token.type], token.string)
        yield _Token(spelt, token.start[0], token.end[0])


def _pairs(old: Sequence[_Token], new: Sequence[_Token]) -> Iterator[tuple[_Token, _Token]]:
    here, there = 0, 0
    while old and there < len(new):
        if here < len(old) and old[here].text == new[there].text:
            yield old[here], new[there]
            here, there = here + 1, there + 1
            continue
        skip = next(
            (
                (left, total - left)
                for total in range(1, _AHEAD)
                for left in range(total + 1)
                if _meet(old, new, here + left, there + total - left)
            ),
            (1, 1),
        )
        for token in new[there : there + skip[1]]:
            yield old[min(here, len(old) - 1)], token
        here, there = here + skip[0], there + skip[1]


def _meet(old: Sequence[_Token], new: Sequence[_Token], here: int, there: int) -> bool:
    both = [(old[here + n : here + n + 1], new[there + n : there + n + 1]) for n in (0, 1)]
    return all([one.text for one in left] == [one.text for one in right] for left, right in both)
