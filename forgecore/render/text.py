"""What a template may print, and helpers that every template sees."""

from forgecore.names import string_literal, words

__all__ = ["Block", "TextError", "block", "literal", "py", "words"]


class TextError(ValueError):
    """A value that would print wrong code."""


class Block(str):
    """Text of several lines that carries its own indentation."""

    __slots__ = ()


def py(value: object) -> str:
    """Let text and numbers through; None, flags and objects would print as Python's repr.

    Text of several lines loses its indentation, so it must say that it has its own.
    """
    if isinstance(value, Block):
        return value
    if isinstance(value, str):
        if "\n" in value:
            raise TextError("a value of several lines loses its indentation: use block() or a slot")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TextError(f"{type(value).__name__} is no text: use `| n,repr`, or text of the view")


def block(text: str) -> Block:
    """Say that `text` may have several lines, indented as they must be."""
    return Block(text)


def literal(text: str) -> Block:
    """Return a Python string literal; text of several lines stands in triple quotes."""
    if "\n" in text:
        return Block(f'"""{escaped(text)}"""')
    return Block(string_literal(text))


def escaped(text: str) -> str:
    """Return `text` as it must stand inside triple quotes."""
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
