"""What a build that takes its time is doing, on a terminal."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from forgecore.cli.paint import has_colours
from forgecore.times import doing

_PATIENCE: Final = 1.0
"""Seconds in which nobody asks what is going on."""
_STEP: Final = 0.2


@contextmanager
def progress() -> Iterator[None]:
    """Tell, on one line that goes away, what the block is doing once it takes over a second."""
    if not has_colours(sys.stderr):
        yield
        return
    ended = threading.Event()
    teller = threading.Thread(target=_tell, args=(ended,), daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _tell(ended: threading.Event) -> None:
    if ended.wait(_PATIENCE):
        return
    while not ended.wait(_STEP):
        click.echo(f"\r\x1b[K{doing()} ...", err=True, nl=False)
    click.echo("\r\x1b[K", err=True, nl=False)
