"""Start, find again, signal and await a container's process, through its shim."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.sandbox.node.shim import start_ticks, write_json

_SHIM: Final = Path(__file__).with_name("shim.py")
_LAUNCH_SECONDS: Final = 2.0
"""How long a shim that the agent lost sight of while launching is given to say that it started."""
_LAUNCH_POLL_SECONDS: Final = 0.02
LOST_EXIT_CODE: Final = 137
"""Exit code of a container whose shim was killed: the kernel killed it too (kubelet: ContainerStatusUnknown)."""


class StartError(Exception):
    """The program could not be executed."""


@dataclass(frozen=True)
class Launch:
    """What a shim is told.

    Args:
        arguments: absolute path of the program, then its arguments.
        environment: all of its variables.
        directory: working directory.
        nice: scheduling niceness.
        supervisor_pid: process whose end ends the container; None for none.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    nice: int = 0
    supervisor_pid: int | None = None


@dataclass(frozen=True)
class Exit:
    """How a container ended; times in seconds since 1970.

    Args:
        code: exit code, 128 + number for a signal.
        signal: number of the signal that ended it, 0 for none.
        started_at: when it was started.
        finished_at: when it ended.
        error: why it could not be executed at all; empty when it was.
        lost: nobody saw it end.
    """

    code: int
    signal: int
    started_at: float
    finished_at: float
    error: str = ""
    lost: bool = False


class ContainerProcess:
    """A running container, held by a pidfd of its shim: no signal ever reaches a process that took over its pid."""

    def __init__(self, folder: Path, shim_pid: int, started_at: float, popen: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.started_at = started_at
        self.exited = asyncio.Event()
        self._popen = popen
        self._descriptor = os.pidfd_open(shim_pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._ended)

    def terminate(self) -> None:
        """SIGTERM to every process of the container."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to every process of the container."""
        self._signal(signal.SIGUSR1)

    async def wait(self) -> Exit:
        """Wait for the end."""
        await self.exited.wait()
        return exit_of(self.folder) or Exit(LOST_EXIT_CODE, 9, self.started_at, time.time(), lost=True)

    def let_go(self) -> None:
        """Stop looking; the container goes on."""
        if not self.exited.is_set():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self.exited.set()
            if self._popen is not None:
                self._popen.returncode = 0  # it is not waited for, and that is meant

    def _signal(self, number: signal.Signals) -> None:
        if not self.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def _ended(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        if self._popen is not None:
            self._popen.wait()  # ended already: this reaps it
        self.exited.set()


async def launch(folder: Path, spec: Launch) -> ContainerProcess:
    """Start a container in a run folder that is new.

    Raises:
        StartError: the program could not be executed.
    """
    content: dict[str, Any] = {
        "arguments": list(spec.arguments),
        "environment": dict(spec.environment),
        "directory": spec.directory,
        "nice": spec.nice,
        "log": str(folder / "log"),
    }
    if spec.supervisor_pid is not None:
        with contextlib.suppress(OSError):  # ended: the shim finds out and does not start
            content["supervisor_start"] = start_ticks(spec.supervisor_pid)
        content["supervisor_pid"] = spec.supervisor_pid
        content.setdefault("supervisor_start", 0)
    _write_spec(folder, content)
    task = asyncio.ensure_future(asyncio.to_thread(_start_shim, folder))
    try:
        popen = await asyncio.shield(task)
    except asyncio.CancelledError:
        await task  # it has started: the next agent finds it by its folder
        raise
    started = read_json(folder / "started.json")
    if started is None:
        popen.wait()
        failure = exit_of(folder)
        raise StartError(failure.error if failure else (folder / "shim.log").read_text(errors="replace")[-400:])
    return ContainerProcess(folder, popen.pid, started["started_at"], popen)


def _write_spec(folder: Path, content: Mapping[str, Any]) -> None:
    """Make the run folder and what its shim reads."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(str(folder / "spec.json"), dict(content))


def _start_shim(folder: Path) -> subprocess.Popen[bytes]:
    """Start the shim and wait until it says that the container runs, or does not."""
    with (folder / "shim.log").open("ab") as errors:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SHIM), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={},
            start_new_session=True,
        )
    assert popen.stdout is not None
    with popen.stdout as said:
        said.readline()
    return popen


async def find_again(folder: Path) -> ContainerProcess | Exit:
    """The container of a run folder that an earlier agent started: running, or how it ended."""
    deadline = time.monotonic() + _LAUNCH_SECONDS
    while True:
        if ended := exit_of(folder):
            return ended
        started = read_json(folder / "started.json")
        if started is not None or time.monotonic() > deadline:
            break
        await asyncio.sleep(_LAUNCH_POLL_SECONDS)
    if started is not None and _lives(started):
        with contextlib.suppress(ProcessLookupError):
            process = ContainerProcess(folder, started["shim"], started["started_at"], None)
            if _lives(started):
                return process
            process.let_go()
    now = time.time()
    return exit_of(folder) or Exit(LOST_EXIT_CODE, 9, started["started_at"] if started else now, now, lost=True)


def _lives(started: Mapping[str, Any]) -> bool:
    """Whether the shim of a run is the process that has its pid now."""
    try:
        return bool(start_ticks(started["shim"]) == started["shim_start"])
    except OSError:
        return False


def exit_of(folder: Path) -> Exit | None:
    """How the container of a run folder ended; None when its shim has not written that down."""
    content = read_json(folder / "exit.json")
    if content is None:
        return None
    if error := content.get("error"):
        return Exit(128, 0, content["started_at"], content["finished_at"], error)
    return Exit(content["exit_code"], content["signal"], content["started_at"], content["finished_at"])


def read_json(path: Path) -> dict[str, Any] | None:
    """A file that a shim wrote; None when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    assert isinstance(content, dict)
    return content


def end_all(state_directory: Path, seconds: float = 5.0) -> int:
    """Kill every container that any agent with this state directory has started, and wait until they are gone.

    For the sandbox's own stopping; needs no event loop.

    Returns:
        How many were running.

    Raises:
        TimeoutError: some did not end within `seconds`.
    """
    descriptors = []
    for file in state_directory.glob("pods/*/containers/*/*/started.json"):
        started = read_json(file)
        if started is None:
            continue
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(started["shim"])
            if not _lives(started):
                os.close(descriptor)
                continue
            signal.pidfd_send_signal(descriptor, signal.SIGUSR1)
            descriptors.append(descriptor)
    deadline = time.monotonic() + seconds
    try:
        for descriptor in descriptors:
            _await_end(descriptor, deadline)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return len(descriptors)


def _await_end(descriptor: int, deadline: float) -> None:
    """Wait until a pidfd's process has ended."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("a container's shim did not end after SIGKILL of its container")
