"""Local names of a generated module: what it imports, under names that its own do not hide."""

import io
import tokenize
from collections.abc import Iterable

from forgecore.plugin import Code, Import


class Names:
    """The names of one module. What is used is imported, under an alias if the name is taken."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = frozenset(taken)
        self._imports: dict[Import, None] = {}

    @property
    def imports(self) -> tuple[Import, ...]:
        """What was used so far."""
        return tuple(self._imports)

    def use(self, code: Code) -> str:
        """Return the text of `code` with names that are free here, and note its imports."""
        text = code.text
        for one in code.imports:
            local = self.bind(one)
            bound = one.alias or one.name or one.module
            if local != bound:
                text = _renamed(text, bound, local)
        for word in ("str", "int", "bool", "float", "bytes", "list"):
            if word in self._taken and _renamed(text, word, "") != text:
                text = _renamed(text, word, self.bind(Import("builtins", word)))
        return text

    def bind(self, one: Import) -> str:
        """Import something and return the name that it has here."""
        bound = one.alias or one.name or one.module
        if bound in self._taken:
            one = Import(one.module, one.name, f"{bound}_")
        self._imports[one] = None
        return one.alias or one.name or one.module

    def bind_own(self, one: Import) -> None:
        """Import one of the names that the others give way to."""
        self._imports[one] = None


class Locals:
    """The local names of a module's imports, as attributes: `rt.Page`."""

    def __init__(self, names: Names, module: str, wanted: Iterable[str]) -> None:
        self._local = {name: names.bind(Import(module, name)) for name in wanted}

    def __getattr__(self, name: str) -> str:
        try:
            return self._local[name]
        except KeyError:
            raise AttributeError(name) from None


def _renamed(text: str, old: str, new: str) -> str:
    """Return `text` with a name renamed; what strings say is not touched."""
    starts = [
        token.start[1]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME and token.string == old and token.start[0] == 1
    ]
    for start in reversed(starts):
        text = text[:start] + new + text[start + len(old) :]
    return text
