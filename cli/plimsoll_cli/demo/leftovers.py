"""Whether a stopped sandbox left a process behind."""

from __future__ import annotations

import os
from pathlib import Path

_PROCESSES = Path("/proc")


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
