"""Clean up after a sandbox whose owner was killed: `guard.py OWNER_PID MARKER`.

Components die with their owner by the kernel's parent-death signal. What they started themselves (the pods' processes)
may not; all of them carry MARKER (`NAME=value`) in their environment. This process waits until the owner has ended,
however that happened, kills every process with the marker, and ends. Standard library only; run with `python -I -S`.
"""

import contextlib
import os
import select
import signal
import sys
import time

SECONDS_BETWEEN_SWEEPS = 0.05
CLEAN_SWEEPS = 3  # a process that forks while being looked at is found by the next sweep


def marked(marker: bytes) -> list[int]:
    """Processes of this user that carry the marker."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:  # ended meanwhile, or another user's
            continue
        if marker in variables:
            found.append(int(entry))
    return found


def sweep(marker: bytes) -> None:
    """Kill until nothing carries the marker."""
    clean = 0
    while clean < CLEAN_SWEEPS:
        pids = marked(marker)
        clean = 0 if pids else clean + 1
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(SECONDS_BETWEEN_SWEEPS)


def main() -> None:
    """Wait for the owner's end, then sweep."""
    owner, marker = int(sys.argv[1]), sys.argv[2].encode()
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        pass
    else:
        select.select([handle], [], [])
    sweep(marker)


if __name__ == "__main__":
    main()
