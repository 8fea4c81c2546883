"""Format generated Python with ruff, by the configuration that ruff finds for these paths."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

from forgecore.diagnostics import Diagnostic
from forgecore.remembered import formatter_settings, hashed, read_cached, write_cached

MARK: Final = ".forge-stage-"


def formatter_version() -> str:
    """Return the version of the formatter, as the lock remembers it."""
    return version("ruff")


class Formatter:
    """The formatter of a project, by the configuration that it finds beside its package.

    Where it `is_remembered`, it knows what it made of which text, as long as that stands on disk
    as it was made. `top` is the first part of the package's name: ruff would look for its
    modules on disk, and sort the imports of a first build differently.
    """

    def __init__(self, package: Path, project: Path, top: str, *, is_remembered: bool) -> None:
        self._package = package
        self._project = project
        self._top = top
        self._file = project / ".forge" / "cache" / "format.json"
        self._is_remembered = is_remembered
        settings = formatter_settings(package)
        texts = [path.read_text("utf-8", "replace") for path in settings if path.is_file()]
        self.maker = hashed([formatter_version(), str(package), top, *texts])

    def format(
        self, texts: Mapping[str, str], kept: Collection[str] = ()
    ) -> tuple[dict[str, str], list[Diagnostic]]:
        """Return `texts`, by path relative to the package, formatted and with imports in order.

        Of files that are `kept` it goes on knowing what it made.
        """
        made = self._made() if self._is_remembered else {}
        known = dict(self._known(texts, made))
        python = {
            path: text for path, text in texts.items() if path.endswith(".py") and path not in known
        }
        formatted, faults = self._run(python) if python else ({}, [])
        if faults:
            return {}, faults
        is_new = bool(python or made.keys() - texts.keys() - set(kept))
        if is_new and self._is_remembered:
            new = {path: (_hash(texts[path]), _hash(text)) for path, text in formatted.items()}
            old = {path: pair for path, pair in made.items() if path in known or path in kept}
            data = json.dumps({self.maker: {**old, **new}})
            write_cached(self._file, data.encode())
        return {**texts, **known, **formatted}, []

    def _made(self) -> dict[str, Any]:
        made = (read_cached(self._file) or {}).get(self.maker)
        return cast("dict[str, Any]", made) if isinstance(made, dict) else {}

    def _known(
        self, texts: Mapping[str, str], made: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        for path, text in texts.items():
            if path in made and made[path][0] == _hash(text):
                content = _text_of(self._package / path)
                if content is not None and _hash(content) == made[path][1]:
                    yield path, content

    def _run(self, texts: Mapping[str, str]) -> tuple[dict[str, str], list[Diagnostic]]:
        # Staged beside their place, so that ruff finds the same configuration.
        near = next(f for f in (self._package, *self._package.parents) if f.is_dir())
        with tempfile.TemporaryDirectory(prefix=f"{MARK}{os.getpid()}-", dir=near) as name:
            stage = Path(name)
            for path, text in texts.items():
                target = stage / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            listed = stage / ".files"
            listed.write_text("\n".join(str(stage / path) for path in texts), encoding="utf-8")
            common = ["--no-cache", "--no-force-exclude", f"@{listed}"]
            ours = f'lint.isort.known-first-party = ["{self._top}"]'
            sorting = ["--fix-only", "--select", "I", "--exit-zero", "--config", ours]
            for arguments in (["check", *sorting, *common], ["format", *common]):
                run = subprocess.run(
                    [ruff_program(), *arguments],
                    # The settings in somebody's home are no input of the project.
                    cwd=self._project,
                    env={"HOME": name, "XDG_CONFIG_HOME": name, "PATH": os.environ.get("PATH", "")},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if run.returncode:
                    return {}, [_refused(run.stderr, stage, texts)]
            return {path: (stage / path).read_text(encoding="utf-8") for path in texts}, []


def _text_of(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove the stages that builds which were killed left in `folder`."""
    for path in folder.glob(f"{MARK}*-*"):
        pid = path.name.removeprefix(MARK).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refused(stderr: str, stage: Path, texts: Mapping[str, str]) -> Diagnostic:
    said = stderr.replace(f"{stage.name}/", "").replace(f"{stage.parent}/", "").strip()
    line = ""
    if match := re.search(r"(\S+\.py):(\d+):\d+", said):
        path = next((path for path in texts if match[1].endswith(path)), "")
        lines = texts.get(path, "").splitlines()
        number = int(match[2])
        line = f"\n{number} | {lines[number - 1]}" if number <= len(lines) else ""
    return Diagnostic("bad-template", None, f"ruff refuses the output: {said}{line}")


def ruff_program() -> str:
    """Return the path of the formatter."""
    # The one that was installed with us: another version would format differently.
    own = Path(sysconfig.get_path("scripts")) / "ruff"
    return str(own) if own.exists() else shutil.which("ruff") or "ruff"
