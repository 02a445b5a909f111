"""Say what is being done and for how long, on stderr: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_REMINDER_SECONDS: Final = 30.0
"""Where nothing can be redrawn (a log), a line this often shows that the work goes on."""


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show `text` and the time it has run while the body runs."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(text, total=None)
            yield
        return
    with _reminders(console, text):
        yield


@contextmanager
def _reminders(console: Console, text: str) -> Iterator[None]:
    """Print `text` now and again at intervals with the time it has run."""
    console.print(text, highlight=False)
    done, began = threading.Event(), time.monotonic()

    def remind() -> None:
        while not done.wait(_REMINDER_SECONDS):
            console.print(f"{text}: {time.monotonic() - began:.0f} s", highlight=False)

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
