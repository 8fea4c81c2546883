"""Import blocks: imports as data become lines; the formatter brings them into order."""

from collections.abc import Iterable

from forgecore.ir import Import
from forgecore.render.text import Block


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
