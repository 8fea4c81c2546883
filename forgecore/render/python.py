"""Import blocks: imports as data become lines; the formatter brings them into order."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from forgecore.ir import Import
from forgecore.render.text import Block

_DEFINED: Final = re.compile(
    r"^(?:(?:class|def|async def|type) +(\w+)|(\w+)(?: *:[^=\n]*)? *=)", re.MULTILINE
)


def import_block(imports: Iterable[Import]) -> Block:
    """Return the import statements, each module once."""
    whole: set[str] = set()
    parts: dict[str, set[str]] = {}
    for one in imports:
        alias = f" as {one.alias}" if one.alias else ""
        if one.name is None:
            whole.add(f"import {one.module}{alias}")
        else:
            parts.setdefault(one.module, set()).add(f"{one.name}{alias}")
    froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in parts.items()]
    return Block("\n".join([*sorted(whole), *sorted(froms)]))


def defined_names(text: str) -> list[str]:
    """Return the names that a module defines at its top, each as often as it does."""
    return [name for found in _DEFINED.findall(text) for name in found if name]


def clashes(imports: Iterable[Import], text: str) -> Iterator[str]:
    """Give, in words, each name that two imports, or an import and the module, would share."""
    defined = set(defined_names(text))
    sources: dict[str, str] = {}
    for one in imports:
        bound = one.alias or one.name or one.module.partition(".")[0]
        source = f"{one.module}.{one.name}" if one.name else bound
        other = sources.setdefault(bound, source)
        if other != source:
            yield f"`{bound}` is imported from `{other}` and from `{source}`"
    for name in sorted(defined & sources.keys()):
        yield f"`{name}` is imported from `{sources[name]}` and defined in the module"
