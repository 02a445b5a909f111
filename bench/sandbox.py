"""How long a sandbox takes to be ready and to end, and what it keeps in memory."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Context, Figure
from plimsoll_cli.sandbox.options import SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox

_MODULES: Final = {
    "operator": "plimsoll_operator.__main__",
    "detector": "plimsoll_detector.__main__",
    "node-agent": "plimsoll_cli.sandbox.node.__main__",
}
_KIB: Final = 1024


def run(context: Context) -> list[Figure]:
    """Start and end sandboxes with warm caches; medians, and the memory of the last."""
    rounds = 1 if context.quick else 3
    without = frozenset(name for name, module in _MODULES.items() if importlib.util.find_spec(module) is None)
    context.skipped.extend(f"{name}: not part of this installation" for name in sorted(without))
    to_ready: list[float] = []
    to_end: list[float] = []
    resident: dict[str, float] = {}
    for number in range(rounds):
        directory = context.output.resolve() / f"sandbox-{number}"
        began = time.monotonic()
        with Sandbox.start(SandboxOptions(name=f"bench-{number}", without=without, directory=directory)) as sandbox:
            to_ready.append(time.monotonic() - began)
            resident = {s.name: resident_mib(s.pid) for s in sandbox.standings() if s.pid is not None}
            began = time.monotonic()
        to_end.append(time.monotonic() - began)
    spread = f"{rounds} starts, {min(to_ready):.1f} to {max(to_ready):.1f} s, binaries cached"
    each = ", ".join(f"{name} {mib:.0f}" for name, mib in resident.items())
    return [
        Figure("sandbox ready", median(to_ready), "s", detail=spread),
        Figure("sandbox ended, nothing left", median(to_end), "s"),
        Figure("sandbox resident memory, no pods", sum(resident.values()), "MiB", detail=each),
    ]


def resident_mib(pid: int) -> float:
    """Resident memory of a process, MiB (VmRSS of /proc/PID/status, proc_pid_status(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _KIB
    return 0.0
