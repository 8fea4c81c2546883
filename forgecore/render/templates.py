"""Mako with strict names: load, lint and compile a template of a package.

The lint closes what Mako does in silence: it swallows lines that begin with `##`, joins
lines that end in a backslash, lets a def called `body` replace the page, and takes an
unknown name in a condition for false.
"""

import builtins
import importlib.resources
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

from attrs import frozen

from forgecore.render import text as helpers
from forgecore.times import spent

# Mako would import every lexer of pygments, for error pages that nobody sees here.
sys.modules.setdefault("mako.ext.pygmentplugin", cast("Any", None))
from mako import exceptions, parsetree  # noqa: E402 -- as said
from mako.lexer import Lexer  # noqa: E402
from mako.template import Template  # noqa: E402

_SLOT: Final = re.compile(r'(?P<indent> *)<%slot name="(?P<name>[\w.]+)"(?P<rest>[^>]*)/>')
_PARAMETER: Final = re.compile(r"^(\s*)%\(")
_ARGUMENT: Final = re.compile(r'\s*(\w+)="([^"]*)"')
_HELPERS: Final = frozenset({"block", "literal", "words"})
_ALWAYS: Final = frozenset(dir(builtins)) | _HELPERS | {"loop"}
HOST_NAMES: Final = frozenset({"view", "imports", "arms", "params", "expressions"})
"""What the template of a file sees, beside its helpers."""


class TemplateError(Exception):
    """A template that cannot be used, or failed; the text names it and its line."""


@frozen
class TemplateSource:
    """A template: its name "package:path", and its text."""

    name: str
    text: str


@frozen
class Compiled:
    """A template that is ready to render."""

    name: str
    source: str
    template: Any
    slots: frozenset[str]

    def render(self, names: Mapping[str, object]) -> str:
        """Return the text; TemplateError names the template's line."""
        try:
            with spent("template", self.name):
                return str(self.template.render_unicode(**names))
        except Exception as error:
            raise failure(self, error) from error


def failure(compiled: Compiled, error: Exception) -> TemplateError:
    """Return what a rendering that raised is told as: the template's line, and the view's."""
    if isinstance(error, TemplateError):
        return error
    line = _line_of(error, compiled.template.uri)
    what = str(error) if isinstance(error, helpers.TextError) else _said(error)
    return TemplateError(f"{compiled.name}:{line}: {what}{_view_of(error)}")


def compile_template(name: str, names: Iterable[str]) -> Compiled:
    """Return the template "package:path"; TemplateError if it uses more than `names`."""
    source = _load(name)
    if faults := _faults(source, frozenset(names)):
        raise TemplateError("\n".join(faults))
    return _compiled(source)


@lru_cache(maxsize=256)
def _load(name: str) -> TemplateSource:
    package, _, path = name.partition(":")
    try:
        text = importlib.resources.files(package).joinpath(path).read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError, ValueError) as error:
        raise TemplateError(f"{name}: there is no such template ({error})") from error
    return TemplateSource(name, text)


@lru_cache(maxsize=256)
def _faults(source: TemplateSource, names: frozenset[str]) -> tuple[str, ...]:
    return tuple(_lint(source, names))


@lru_cache(maxsize=256)
def _compiled(source: TemplateSource) -> Compiled:
    slots: set[str] = set()
    lines = [_with_slot(line, slots) for line in source.text.splitlines()]
    try:
        template = Template(  # noqa: S702 -- renders code, not pages
            "\n".join(lines) + "\n",
            uri=source.name,
            strict_undefined=True,
            default_filters=["py"],
            imports=[
                "from forgecore.render.text import block, literal, py, words",
            ],
        )
    except exceptions.MakoException as error:
        line = getattr(error, "lineno", 0)
        raise TemplateError(f"{source.name}:{line}: {_said(error)}") from error
    slots |= set(re.findall(r'(?:arms|params|expressions)\(\s*"([\w.]+)"', source.text))
    return Compiled(source.name, source.text, template, frozenset(slots))


def _with_slot(line: str, slots: set[str]) -> str:
    if (match := _SLOT.fullmatch(line.rstrip())) is None:
        # A parameter of a statement at a line's start is no control line.
        return _PARAMETER.sub(r"\1%%(", line)
    slots.add(match["name"])
    arguments = ", ".join(f"{key}={value}" for key, value in _ARGUMENT.findall(match["rest"]))
    # The backslash takes the line's end: a slot that is empty leaves no blank line.
    return f'${{slot("{match["name"]}", {len(match["indent"])}, dict({arguments}))}}\\'


def _lint(source: TemplateSource, names: frozenset[str]) -> Iterator[str]:
    slots: set[str] = set()
    lines = source.text.splitlines()
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if stripped.startswith("##"):
            yield f"{source.name}:{number}: Mako swallows a line that begins with `##`: use <%doc>"
        if line.endswith("\\"):
            yield f"{source.name}:{number}: Mako joins a line that ends in a backslash"
        if re.search(r"<%(inherit|block|include)\b", line):
            yield f"{source.name}:{number}: inherit, block and include lose indentation: use slots"
        if re.search(r'<%def name="body\(', line):
            yield f"{source.name}:{number}: a def called `body` would replace the whole template"
    text = "\n".join(_with_slot(line, slots).removesuffix("\\") for line in lines)
    try:
        tree = Lexer(text, filename=source.name).parse()
    except exceptions.MakoException as error:
        yield f"{source.name}:{getattr(error, 'lineno', 0)}: {_said(error)}"
        return
    known = names | _ALWAYS | {"slot"}
    told: set[str] = set()
    for node in _nodes(tree):
        declared: Iterable[str] = getattr(node, "declared_identifiers", list)()
        undeclared: Iterable[str] = getattr(node, "undeclared_identifiers", list)()
        for name in sorted(set(undeclared) - known - told):
            told.add(name)
            yield f"{source.name}:{node.lineno}: `{name}` is no name that this template may use"
        known |= set(declared)


def _nodes(node: Any) -> Iterator[Any]:  # noqa: ANN401 -- Mako has no types
    for child in node.get_children():
        if not isinstance(child, parsetree.Text):
            yield child
            yield from _nodes(child)


def _line_of(error: Exception, uri: str) -> int:
    trace = exceptions.RichTraceback(error=error, traceback=error.__traceback__)
    lines = [record[5] for record in trace.records if record[4] is not None and record[4] == uri]
    return int(lines[-1]) if lines else 0


def _view_of(error: Exception) -> str:
    """Return the place in the Python of a view, if it is the view that raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = Path(last.filename)
    is_view = own.is_file() and own.parent != Path(__file__).parent and "mako" not in own.parts
    return f" (at {last.filename}:{last.lineno})" if is_view else ""


def _said(error: Exception) -> str:
    text = str(error).partition(" in file ")[0].partition(" at line")[0]
    return (
        text if isinstance(error, exceptions.MakoException) else f"{type(error).__name__}: {text}"
    )
