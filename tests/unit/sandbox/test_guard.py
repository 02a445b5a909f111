"""The process that cleans up after a sandbox whose owner was killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from plimsoll_cli.sandbox.sandbox import marker, start_guard

OWNER = """
import sys, time
from pathlib import Path
from plimsoll_cli.sandbox.sandbox import start_guard
print(start_guard(Path(sys.argv[1])).pid, flush=True)
time.sleep(3217)
"""
HELD_SECONDS = 0.3
ENDED_SECONDS = 60.0


def state(pid: int) -> str:
    """What a process does, as one letter; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_new_one_starts_when_that_of_a_killed_sandbox_has_swept(tmp_path: Path) -> None:
    """It would take the new sandbox's processes, which carry the same marker, for what was left over."""
    variable, _, folder = marker(tmp_path).partition("=")
    left_over = subprocess.Popen(["sleep", "3217"], env={**os.environ, variable: folder})
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    before = int(owner.stdout.readline())
    os.kill(before, signal.SIGSTOP)  # a slow machine
    owner.kill()
    owner.communicate()
    threading.Timer(HELD_SECONDS, os.kill, (before, signal.SIGCONT)).start()

    new = start_guard(tmp_path)
    try:
        assert state(before) != "T"
        assert left_over.wait(ENDED_SECONDS) == -signal.SIGKILL
        handle = os.pidfd_open(new.pid)
        assert not select.select([handle], [], [], 0)[0], "it lives as long as its owner, which is this process"
        os.close(handle)
    finally:
        new.kill()
        new.wait()
