"""The real vLLM CPU server and the simulated engine, side by side, serving the same tiny model.

The real one is a pod of the sandbox, shared with the end-to-end tests; the simulated one is a process of its own with
the same arguments.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_runtime import launch

ADDRESS = "127.0.0.2"
"""Connections on this machine take their ports on 127.0.0.1: one that is free there may be taken at any time."""
START_SECONDS = 60
COMPUTES = b"VLLM::"
"""How vLLM names its processes behind the server."""


@dataclass
class Server:
    """A serving process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{ADDRESS}:{self.port}"

    def log_end(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


@dataclass(frozen=True)
class Container:
    """The process of a pod's engine, with what a test wants of `subprocess.Popen`.

    Args:
        engine: the service (`RealEngine` of tests/conftest.py).
        address: of its pod.
        pid: of its first process.
    """

    engine: Any
    address: str
    pid: int

    def send_signal(self, number: int) -> None:
        """Signal the first process, as a kubelet does."""
        os.kill(self.pid, number)

    def signal_engine(self, number: int) -> None:
        """Signal what computes behind the server, which goes on answering."""
        for pid in descendants(self.pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(COMPUTES):
                    os.kill(pid, number)

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code; the pod, which would start it again, goes."""
        deadline = time.monotonic() + timeout
        while (code := self._exit_code()) is None:
            assert time.monotonic() < deadline, f"the engine did not end within {timeout:g} s"
            time.sleep(0.1)
        self.engine.delete()
        return code

    def _exit_code(self) -> int | None:
        [status] = self.engine.pod()["status"]["containerStatuses"]
        states = [status.get(name, {}).get("terminated") for name in ("state", "lastState")]
        return next((int(ended["exitCode"]) for ended in states if ended), None)


@dataclass(frozen=True)
class Pod:
    """A serving pod."""

    process: Container

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.process.address}:{names.ENGINE_PORT}"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def start(command: list[str], port: int, log: Path) -> Server:
    """Start a process and wait until it serves."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    server = Server(process, port, log)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, port)) == 0 and _healthy(server):
                return server
        time.sleep(0.05)
    stop(server)
    raise AssertionError(f"did not start within {START_SECONDS} s, exit code {process.returncode}:\n{server.log_end()}")


def _healthy(server: Server) -> bool:
    with urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer:
        return bool(answer.status == 200)


def stop(server: Server) -> None:
    """End a process."""
    if server.process.poll() is None:
        server.process.terminate()
        try:
            server.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def process_of(address: str) -> int:
    """The launcher of the engine at a pod's address, by its command line and the address it was told to bind."""
    told = f"PLIMSOLL_BIND_ADDRESS={address}".encode()

    def has(path: Path, wanted: Callable[[list[bytes]], bool]) -> bool:
        try:
            return wanted(path.read_bytes().split(b"\0"))
        except OSError:  # ended meanwhile
            return False

    [found] = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and has(entry / "cmdline", lambda words: launch.__file__.encode() in words)
        and has(entry / "environ", lambda variables: told in variables)
    ]
    return found


@pytest.fixture(scope="session")
def real(real_engine: Any) -> Pod:
    """vLLM itself, in a pod of its own."""
    real_engine.await_available()
    address = real_engine.pod()["status"]["podIP"]
    return Pod(Container(real_engine, address, process_of(address)))


@pytest.fixture(scope="session")
def simulated(real_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The simulated engine with the same arguments, elsewhere; a test may change its pace."""
    port = free_port()
    command = [sys.executable, "-m", "plimsoll_runtime.engine", *real_engine.arguments]
    command += ["--host", ADDRESS, "--port", str(port), "--gpu", "NVIDIA-L4", "--enable-admin"]
    server = start(command, port, tmp_path_factory.mktemp("engine") / "engine.log")
    yield server
    stop(server)
