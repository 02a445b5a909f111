"""Whether a stopped sandbox left a process behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_ENDING_SECONDS: Final = 5.0
"""A killed process of some gigabytes takes a moment to give its memory back; it runs no more, but is still listed."""
_LOOK_SECONDS: Final = 0.1


def left_running(directory: Path) -> list[str]:
    """Processes of a stopped sandbox that are still there after the time that ending takes."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while (found := processes_of(directory)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return found


def processes_of(directory: Path) -> list[str]:
    """Processes whose command line, environment or working folder names a sandbox's state folder, as `name (pid N)`.

    This process and its ancestors are left out; a process that ends while it is looked at is not running.
    """
    mark = os.fsencode(directory)
    mine = _ancestors(os.getpid())
    found = []
    for entry in sorted(_PROCESSES.iterdir()):
        if not entry.name.isdigit() or int(entry.name) in mine:
            continue
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            told += os.fsencode((entry / "cwd").readlink())
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if mark in told:
            found.append(f"{name} (pid {entry.name})")
    return found


def _ancestors(pid: int) -> set[int]:
    """The process and those it descends from."""
    chain: set[int] = set()
    while pid > 0:
        chain.add(pid)
        try:
            after_name = (_PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2]
        except OSError:
            break
        pid = int(after_name.split()[1])
    return chain
