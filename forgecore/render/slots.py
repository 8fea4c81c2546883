"""Slots: put plugins' fragments into a host template, keeping indentation and order.

Each fragment is parsed alone before it is put anywhere, so that an error names the
plugin and the template that it came from.
"""

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from forgecore.ir import Origins
from forgecore.names import near
from forgecore.plugin.artefacts import Fragment, Slot
from forgecore.plugin.host import Answer
from forgecore.render.python import defined_names
from forgecore.render.templates import TemplateError, compile_template
from forgecore.render.text import Block, escaped
from forgecore.render.trace import Place, Traced, Tracer, changed, joined, things_of

_ARM: Final = re.compile(
    r"\s*(\w+)(?:\s*\([\w\s,]*\))?\s+AS\s+(?:(?:NOT\s+)?MATERIALIZED\s+)?\(", re.IGNORECASE
)
_QUOTED: Final = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_PARAMETER: Final = re.compile(r"(?<!%)(?:%%)*%\((\w+)\)[sbt]")
_KEY: Final = ("id", "tenant_id")
"""Parameters that every statement has. A field is one only where it is given a value."""
_UNDOUBLED: Final = re.compile(r"(?<!%)(?:%%)*%(?!%|\(\w+\)[sbt])")


class Slots:
    """The slots of one file, and what a template calls to fill them."""

    def __init__(
        self,
        slots: Sequence[Slot],
        fragments: Mapping[str, Sequence[Answer[Fragment]]],
        origins: Origins | None = None,
    ) -> None:
        self._slots = {slot.name: slot for slot in slots}
        self._fragments = fragments
        self._origins = origins
        self._defined: dict[str, list[Answer[Fragment]]] = {}

    def helpers(self) -> dict[str, Callable[..., object]]:
        """Return what the host template sees by name."""
        return {
            "slot": self.slot,
            "arms": self.arms,
            "params": self.params,
            "expressions": self.expressions,
        }

    def slot(self, name: str, indent: int, names: Mapping[str, object]) -> Block:
        """Return the fragments' lines, each indented as the tag of the slot is."""
        parts: list[str] = []
        for answer, text in self._rendered(name, names):
            parts += [changed(text, textwrap.indent(text, " " * indent)), "\n"]
            if self._slots[name].language == "python" and not indent:
                for defined in defined_names(text):
                    self._defined.setdefault(defined, []).append(answer)
        return joined(parts)

    def arms(self, name: str, *, braces: bool = False, **names: object) -> Block:
        """Return the fragments as further arms of a WITH, to stand behind the closing parenthesis.

        `braces`: the statement goes through str.format, so braces are doubled.
        """
        parts: list[str] = []
        for _, text in self._rendered(name, names):
            whole = escaped(text)
            doubled = whole.replace("{", "{{").replace("}", "}}") if braces else whole
            parts += [", ", changed(text, doubled)]
        return joined(parts)

    def params(self, name: str) -> Block:
        """Return the fragments' named parameters as a dict to unite with the statement's own."""
        given = {
            key: value
            for answer in self._fragments.get(name, ())
            for key, value in answer.value.params.items()
        }
        items = ", ".join(f'"{key}": {value}' for key, value in given.items())
        text = f" | {{{items}}}" if given else ""
        if self._origins is None:
            return Block(text)
        places = [
            Place(
                answer.plugin,
                answer.value.template,
                None,
                name,
                things_of(answer.value.view, self._origins),
            )
            for answer in self._fragments.get(name, ())
            if answer.value.params
        ]
        return Traced.of(text, [tuple(places)] * (text.count("\n") + 1))

    def expressions(self, name: str) -> list[Block]:
        """Return the fragments of a slot that holds expressions, one by one."""
        return [text for _, text in self._rendered(name, {})]

    def collisions(self, text: str) -> Iterator[str]:
        """Give, in words, each name that two parts of the module `text` define, one a fragment."""
        counts = Counter(defined_names(text))
        for name, answers in self._defined.items():
            labels = list(dict.fromkeys(answer.plugin.label for answer in answers))
            # One that a fragment itself defines twice, such as an overload, is its own affair.
            others = ["the module itself"] if counts[name] > len(answers) else []
            if len(by := [*labels, *others]) > 1:
                yield f"`{name}` is defined by a fragment of {' and by '.join(by)}"

    def _rendered(
        self, name: str, names: Mapping[str, object]
    ) -> Iterator[tuple[Answer[Fragment], Block]]:
        slot = self._slots[name]
        for answer in self._fragments.get(name, ()):
            fragment = answer.value
            given = {**names, "view": fragment.view, "arm": answer.plugin.name}
            try:
                template = compile_template(fragment.template, {*slot.names, "view"})
                if self._origins is None:
                    whole = template.render(given)
                else:
                    tracer = Tracer(template, answer.plugin, name, fragment.view, self._origins)
                    whole = tracer.render(given)
                dedented = textwrap.dedent(whole).rstrip()
                text = dedented.lstrip("\n")
                if text:
                    _check(slot, answer, text)
                    yield answer, changed(whole, text, len(dedented) - len(text))
            except TemplateError as error:
                raise TemplateError(f"{answer.plugin.label}, slot `{name}`: {error}") from error


def _check(slot: Slot, answer: Answer[Fragment], text: str) -> None:
    template = answer.value.template
    if slot.language == "sql":
        _check_arms(answer, text)
        return
    try:
        if slot.language == "python-expression":
            ast.parse(text, mode="eval")
        elif slot.language == "python-decorator":
            _check_decorators(ast.parse(f"{text}\ndef _(): ..."), template)
        else:
            ast.parse(text)
    except SyntaxError as error:
        line = text.splitlines()[(error.lineno or 1) - 1 : error.lineno or 1]
        shown = f": {line[0].strip()}" if line else ""
        raise TemplateError(
            f"{template}: line {error.lineno} of the fragment is no Python ({error.msg}){shown}"
        ) from error


def _check_decorators(tree: ast.Module, template: str) -> None:
    if len(tree.body) > 1:
        raise TemplateError(f"{template}: the fragment is more than decorators")


def _check_arms(answer: Answer[Fragment], text: str) -> None:
    name = answer.plugin.name
    template = answer.value.template
    for found in _UNDOUBLED.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        raise TemplateError(
            f"{template}: line {line} of the fragment has a `%` that is no `%(name)s`: write `%%`"
        )
    known = {*answer.value.params, *_KEY}
    for found in _PARAMETER.finditer(text):
        if found[1] not in known:
            close = near(found[1], known)
            hint = f"; did you mean `{close}`?" if close else ""
            raise TemplateError(
                f"{template}: the arm uses `%({found[1]})s`, which is none of its params{hint}"
            )
    for arm in _split_arms(text, template):
        match = _ARM.match(arm)
        if match is None or not _is_one_group(arm[match.end() - 1 :]):
            shown = arm.strip()[:60] or "nothing, before or behind a comma (forgecore puts them)"
            raise TemplateError(f"{template}: an arm is written `name AS (...)`: {shown}")
        if match[1] != name and not match[1].startswith(f"{name}_"):
            raise TemplateError(
                f"{template}: the arm `{match[1]}` must be called `{name}`, or begin with `{name}_`"
            )


def _split_arms(text: str, template: str) -> Iterator[str]:
    """Give the arms, with what is quoted or a comment struck out."""
    last = ""
    for found in _QUOTED.finditer(text):
        last = found[0] if found.end() == len(text) else ""
    if last.startswith("--"):
        raise TemplateError(f"{template}: a comment at the fragment's end would hide what follows")
    plain = _QUOTED.sub(lambda found: re.sub(r"\S", "_", found[0]), text)
    depth, start, line = 0, 0, 1
    for index, char in enumerate(plain):
        line += char == "\n"
        depth += (char == "(") - (char == ")")
        if depth < 0:
            raise TemplateError(f"{template}: line {line} of the fragment closes what is not open")
        if char == "," and depth == 0:
            yield plain[start:index]
            start = index + 1
    if depth or set(plain) & {"'", '"'}:
        raise TemplateError(f"{template}: the fragment leaves a parenthesis or quote open")
    yield plain[start:]


def _is_one_group(text: str) -> bool:
    """Return whether `text` is one pair of parentheses, with what stands between them."""
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return not text[index + 1 :].strip()
    return False
