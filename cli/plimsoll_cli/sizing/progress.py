"""A sign of life on stderr when an answer takes longer than people wait in silence."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.status import Status

SILENCE_S: Final = 2.0
"""After this long without a word people think that a command hangs."""


@contextmanager
def sign_of_life(text: str, after: float = SILENCE_S) -> Iterator[None]:
    """Show `text` with a spinner while the body runs, from `after` seconds on, when stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    shown: list[Status] = []

    def show() -> None:
        # Imported only now: most answers are there before anything is shown.
        from rich.console import Console

        shown.append(Console(stderr=True).status(text))
        shown[0].start()

    timer = threading.Timer(after, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for status in shown:
            status.stop()
