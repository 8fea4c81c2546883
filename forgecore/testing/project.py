"""TemporaryProject: a project in a folder of a test's own, built in its process."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from forgecore.build import BuildError, make
from forgecore.build import build as run_build
from forgecore.cli.project import builtin
from forgecore.diagnostics import Diagnostic, errors
from forgecore.ir import IR

_NAME: Final = "app"


@frozen(kw_only=True)
class Built:
    """What a build made: texts by path relative to the package, and what it found."""

    files: Mapping[str, str]
    scaffolds: Mapping[str, str]
    ir: IR | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing stops the build."""
        return not errors(self.diagnostics)

    @property
    def found(self) -> list[str]:
        """The diagnostics as `code file:line:column`, in order; without a place the code alone."""
        return [f"{one.code} {one.span}" if one.span else one.code for one in self.diagnostics]

    @property
    def text(self) -> str:
        """The diagnostics as people read them."""
        return "\n".join(one.render() for one in self.diagnostics)


class TemporaryProject:
    """A project with these plugins, by the names of their entry points, and no resource yet.

    Its package is called `app`.
    """

    def __init__(self, folder: Path, plugins: Sequence[str]) -> None:
        self.folder = folder
        self.plugins = tuple(plugins)
        names = ", ".join(f'"{name}"' for name in plugins)
        self._config = f'[project]\nname = "{_NAME}"\nplugins = [{names}]\n'
        self._write("forge.toml", self._config)

    @property
    def package(self) -> Path:
        """The folder of the package."""
        return self.folder / _NAME

    def config(self, text: str) -> None:
        """Put text behind [project] in forge.toml, in the place of what was there before."""
        self._write("forge.toml", f"{self._config}\n{text}")

    def schema(self, name: str, text: str) -> None:
        """Write schema/<name>.toml."""
        self._write(f"schema/{name}.toml", text)

    def build(self, without: Collection[str] = ()) -> Built:
        """Run every stage of a build and write nothing."""
        try:
            output = make(self.folder, builtin(), without, scaffolds=True)
        except BuildError as error:
            return Built(files={}, scaffolds={}, ir=None, diagnostics=tuple(error.diagnostics))
        return Built(
            files=output.of_kind("gen"),
            scaffolds=output.of_kind("scaffold"),
            ir=output.ir,
            diagnostics=output.warnings,
        )

    def write(self) -> None:
        """Build, and write gen/; BuildError if something stops it."""
        run_build(self.folder, builtin(), force=True)

    def _write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
