"""Format generated Python with ruff, by the configuration that ruff finds for these paths."""

import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from forgecore.diagnostics import Diagnostic
from forgecore.remembered import FORMATTER_FILES, read_cached, write_cached

MARK: Final = ".forge-stage-"


def formatter_version() -> str:
    """Return the version of the formatter, as the lock remembers it."""
    return version("ruff")


def format_texts(
    texts: Mapping[str, str], package: Path, project: Path, top: str
) -> tuple[dict[str, str], list[Diagnostic]]:
    """Return `texts`, by path relative to `package`, formatted and with imports in order.

    They are staged in a folder beside their place, so that ruff finds the same configuration.
    `top` is the first part of the package's name: ruff would look for its modules on disk, and
    sort the imports of a first build differently.
    """
    cache = _Cache(package, project, top)
    known = cache.known(texts)
    python = {
        path: text for path, text in texts.items() if path.endswith(".py") and path not in known
    }
    if not python:
        return {**texts, **known}, []
    near = next(folder for folder in (package, *package.parents) if folder.is_dir())
    with tempfile.TemporaryDirectory(prefix=f"{MARK}{os.getpid()}-", dir=near) as name:
        stage = Path(name)
        for path, text in python.items():
            target = stage / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
        listed = stage / ".files"
        listed.write_text("\n".join(str(stage / path) for path in python), encoding="utf-8")
        common = ["--no-cache", "--no-force-exclude", f"@{listed}"]
        ours = f'lint.isort.known-first-party = ["{top}"]'
        sorting = ["check", "--fix-only", "--select", "I", "--exit-zero", "--config", ours, *common]
        for arguments in (sorting, ["format", *common]):
            run = subprocess.run(
                [ruff_program(), *arguments],
                # The settings in somebody's home are no input of the project.
                cwd=project,
                env={"HOME": name, "XDG_CONFIG_HOME": name, "PATH": os.environ.get("PATH", "")},
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode:
                return {}, [_refused(run.stderr, stage, python)]
        formatted = {path: (stage / path).read_text(encoding="utf-8") for path in python}
    cache.remember(texts, {**known, **formatted})
    return {**texts, **known, **formatted}, []


class _Cache:
    """What the formatter made of which text, as long as it stands on disk as it was made."""

    def __init__(self, package: Path, project: Path, top: str) -> None:
        self._package = package
        self._file = project / ".forge" / "cache" / "format.json"
        folders = (package, *package.parents)
        settings = [folder / name for folder in folders for name in FORMATTER_FILES]
        texts = [path.read_text("utf-8", "replace") for path in settings if path.is_file()]
        self._maker = _hash("\0".join([formatter_version(), str(package), top, *texts]))

    def known(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return the formatted texts that are known, by path."""
        made = (read_cached(self._file) or {}).get(self._maker)
        known: dict[str, str] = {}
        for path, (raw, formatted) in made.items() if isinstance(made, dict) else ():
            if path in texts and raw == _hash(texts[path]):
                content = _text_of(self._package / path)
                if content is not None and _hash(content) == formatted:
                    known[path] = content
        return known

    def remember(self, texts: Mapping[str, str], formatted: Mapping[str, str]) -> None:
        """Note what was made of which text."""
        made = {path: (_hash(texts[path]), _hash(text)) for path, text in formatted.items()}
        write_cached(self._file, {self._maker: made})


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
        lines = texts.get(match[1], "").splitlines()
        number = int(match[2])
        line = f"\n{number} | {lines[number - 1]}" if number <= len(lines) else ""
    return Diagnostic("bad-template", None, f"ruff refuses the output: {said}{line}")


def ruff_program() -> str:
    """Return the path of the formatter."""
    # The one that was installed with us: another version would format differently.
    own = Path(sysconfig.get_path("scripts")) / "ruff"
    return str(own) if own.exists() else shutil.which("ruff") or "ruff"
