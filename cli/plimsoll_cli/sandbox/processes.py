"""Start, watch and stop the components: none outlives the process that started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from plimsoll_cli.errors import CommandError

_SHIM: Final = Path(__file__).with_name("exec_shim.py")
_POLL_SECONDS: Final = 0.05
"""Pause between two readiness checks: short beside the 2.4 s an API server takes, long beside one check's cost."""
_LOG_LINES_SHOWN: Final = 15
"""Lines of a log shown when its component fails: the cause is nearly always in the last few."""
_LINE_WIDTH_SHOWN: Final = 300
_ERRORS_SHOWN: Final = 3
_LOG_BYTES_READ: Final = 1 << 18
_SPEAKS_OF_ERROR: Final = re.compile(r"\b(error|fatal|panic)", re.IGNORECASE)

# The parent-death signal is tied to the parent's THREAD. This one lives as long as the interpreter, so a sandbox that
# was started from a short-lived thread does not lose its components when that thread ends.
_SPAWNER: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-spawner")


@dataclass(frozen=True)
class Component:
    """What to run.

    Args:
        name: how people refer to it: `kube-apiserver`.
        arguments: the program's absolute path, then its arguments.
        log: file that its output is appended to.
        environment: variables added to, or replacing, this process's own.
        stop_signal: what asks it to stop.
        stop_seconds: how long it may take before it is killed.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


class Process:
    """A running component, leader of its own process group."""

    def __init__(self, component: Component, popen: subprocess.Popen[bytes]) -> None:
        self.component = component
        self._popen = popen

    @property
    def pid(self) -> int:
        """Process id, also that of its process group."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.poll()

    def stop(self) -> None:
        """Ask it to stop, wait, then kill what is left of its process group. Idempotent."""
        if self._popen.poll() is None:
            self._popen.send_signal(self.component.stop_signal)
            try:
                self._popen.wait(self.component.stop_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        _kill_group(self.pid)

    def kill(self) -> None:
        """End it without asking."""
        _kill_group(self.pid)
        self._popen.wait()


def _kill_group(leader: int) -> None:
    """Kill every member of a process group; none left is fine."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def start(component: Component) -> Process:
    """Start a component; it is killed by the kernel when this process ends, however it ends."""
    component.log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid()), *component.arguments]

    def spawn() -> subprocess.Popen[bytes]:
        with component.log.open("ab") as log:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **component.environment},
                cwd=component.log.parent,
                start_new_session=True,
            )

    return Process(component, _SPAWNER.submit(spawn).result())


def wait_ready(process: Process, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until `ready` answers True.

    Raises:
        CommandError: the component ended or was not ready in time; with the end of its log.
    """
    name = process.component.name
    deadline = time.monotonic() + seconds
    while not ready():
        if process.exit_code is not None:
            raise CommandError(failure_message(process, f"{name} ended with {exit_text(process.exit_code)}"))
        if time.monotonic() > deadline:
            raise CommandError(failure_message(process, f"{name} was not ready after {seconds:.0f} s"))
        time.sleep(_POLL_SECONDS)


def failure_message(process: Process, what: str) -> str:
    """What happened, where the log is, and the log's end."""
    end = log_end(process.component.log)
    return f"{what}; the end of {process.component.log}:\n{end or '  (the log is empty)'}"


def exit_text(exit_code: int) -> str:
    """An exit code in words: `exit code 1`, `SIGKILL`."""
    if exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def log_end(log: Path, lines: int = _LOG_LINES_SHOWN) -> str:
    """The last lines of a log, indented, long ones cut, after earlier ones that speak of an error; empty when none.

    Some programs print their usage after the error, which pushes the cause out of the end.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_BYTES_READ))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    found = text.splitlines()
    errors = [line for line in found[:-lines] if _SPEAKS_OF_ERROR.search(line)][-_ERRORS_SHOWN:]
    shown = [*errors, *(["..."] if errors else []), *found[-lines:]]
    return "\n".join(f"  {line[:_LINE_WIDTH_SHOWN]}" for line in shown)
