"""The real vLLM CPU server and the simulated engine, side by side, serving the same tiny model."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plimsoll_runtime import launch, tiny_model, vllm_environment

ADDRESS = "127.0.0.1"
START_SECONDS = 480
"""The real one imports torch and compiles kernels: 25 to 100 s on two idle cores, much more on busy ones."""

FLAGS = ("--served-model-name", "tiny", "alias", "--max-model-len", "1024", "--max-num-seqs", "16")
FLAGS += ("--shutdown-timeout", "30", "--max-num-queued-reqs", "8")


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


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def start(command: list[str], environment: dict[str, str], port: int, log: Path) -> Server:
    """Start a process and wait until it listens."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    server = Server(process, port, log)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, port)) == 0 and _healthy(server):
                return server
        time.sleep(0.2)
    stop(server)
    raise AssertionError(f"did not start within {START_SECONDS} s, exit code {process.returncode}:\n{server.log_end()}")


def _healthy(server: Server) -> bool:
    with socket.create_connection((ADDRESS, server.port), timeout=5) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n")
        return re.match(rb"HTTP/1\.1 200", connection.recv(100)) is not None


def stop(server: Server) -> None:
    """End a process. SIGTERM first: processes of vLLM's outlive one that is killed."""
    if server.process.poll() is None:
        server.process.terminate()
        try:
            server.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="session")
def tiny() -> tuple[vllm_environment.VllmEnvironment, Path]:
    """vLLM's environment and the tiny model."""
    environment = vllm_environment.ensure()
    return environment, tiny_model.ensure(environment)


@pytest.fixture(scope="session")
def real(
    tiny: tuple[vllm_environment.VllmEnvironment, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """vLLM itself, niced so that it does not starve what else runs."""
    environment, model = tiny
    port = free_port()
    command = [*("nice", "-n", "10", str(environment.python), launch.__file__, "serve", str(model), *FLAGS)]
    command += ["--host", ADDRESS, "--port", str(port), "--enforce-eager"]
    server = start(command, environment.variables(os.environ), port, tmp_path_factory.mktemp("vllm") / "vllm.log")
    yield server
    stop(server)


@pytest.fixture(scope="session")
def simulated(
    tiny: tuple[vllm_environment.VllmEnvironment, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The simulated engine with the same flags."""
    port = free_port()
    command = [sys.executable, "-m", "plimsoll_runtime.engine", str(tiny[1]), *FLAGS]
    command += ["--host", ADDRESS, "--port", str(port), "--gpu", "NVIDIA-L4"]
    server = start(command, dict(os.environ), port, tmp_path_factory.mktemp("engine") / "engine.log")
    yield server
    stop(server)
