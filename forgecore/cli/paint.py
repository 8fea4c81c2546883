"""Colours for people: on a terminal, and where nobody has asked for none (no-color.org)."""

import os
import re
import sys
from typing import Final, TextIO

import click

_SEVERITY: Final = re.compile(
    r"^((?:[^\s:]+:\d+:\d+: )?)(error|warning)(\[[^\]]+\])?(?=: )", re.MULTILINE
)
_CARETS: Final = re.compile(r"^( +\| *)(\^+)$", re.MULTILINE)
_COLOURS: Final = {"error": "red", "warning": "yellow"}
_CHANGES: Final = {"+": "green", "-": "red", "@": "cyan"}


def has_colours(stream: TextIO) -> bool:
    """Return whether what is written there may be coloured."""
    is_refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not is_refused and stream.isatty()


def say_error(text: str) -> None:
    """Print diagnostics to stderr."""
    if has_colours(sys.stderr):
        text = _SEVERITY.sub(_severity, text)
        text = _CARETS.sub(lambda found: found[1] + click.style(found[2], fg="red"), text)
    click.echo(text, err=True)


def say_diff(text: str) -> None:
    """Print a unified diff."""
    if has_colours(sys.stdout):
        lines = text.splitlines(keepends=True)
        text = "".join(
            click.style(line, fg=_CHANGES[line[0]]) if line[0] in _CHANGES else line
            for line in lines
        )
    click.echo(text, nl=False)


def _severity(found: re.Match[str]) -> str:
    what = click.style(f"{found[2]}{found[3] or ''}", fg=_COLOURS[found[2]], bold=True)
    return click.style(found[1], bold=True) + what if found[1] else what
