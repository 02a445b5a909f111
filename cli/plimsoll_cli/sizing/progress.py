"""A sign of life on stderr when an answer takes longer than people wait in silence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SILENCE_S: Final = 2.0
"""After this long without a word people think that a command hangs."""


@contextmanager
def sign_of_life(text: str, after: float = SILENCE_S) -> Iterator[None]:
    """Show `text` with a spinner while the body runs, from `after` seconds on, when stderr is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(text)
    timer = threading.Timer(after, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
