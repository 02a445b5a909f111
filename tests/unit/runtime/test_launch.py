"""The launcher of real vLLM: its command, its signals and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plimsoll_runtime import launch

# Stands where vLLM's server module is: the launcher is what is tested here.
SERVER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("up", flush=True)
mode = sys.argv[sys.argv.index("--model") + 1]
if mode == "dies":
    sys.exit(0)
if mode == "fails":
    sys.exit(3)
if mode == "tells":
    sys.exit(0 if os.getpgrp() != os.getpgid(os.getppid()) and os.getsid(0) == os.getsid(os.getppid()) else 4)
time.sleep(600)  # longer than a test may take: its end is a death
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a package at the path of vLLM's server."""
    folder = tmp_path / "vllm" / "entrypoints" / "openai"
    folder.mkdir(parents=True)
    (folder / "api_server.py").write_text(SERVER)
    return tmp_path


def run(packages: Path, model: str) -> subprocess.Popen[str]:
    """Launch a model's server."""
    return subprocess.Popen(
        [sys.executable, launch.__file__, "serve", model],
        env={**os.environ, "PYTHONPATH": str(packages)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_command() -> None:
    command = launch.engine_command(["serve", "/m", "--port=1"], {launch.BIND_ADDRESS_VARIABLE: "127.0.0.9"})
    assert command[1:] == [
        *("-m", "vllm.entrypoints.openai.api_server", "--model", "/m", "--port=1", "--host", "127.0.0.9")
    ]
    given = launch.engine_command(["--model", "/m", "--host=0"], {launch.BIND_ADDRESS_VARIABLE: "127.0.0.9"})
    assert given[3:] == ["--model", "/m", "--host=0"]


@pytest.mark.parametrize(("model", "code"), [("dies", launch.ENGINE_DIED), ("fails", 3)])
def test_a_death_that_nobody_asked_for_is_not_0(packages: Path, model: str, code: int) -> None:
    with run(packages, model) as process:
        assert process.wait(60) == code


def test_sigterm_is_passed_on_and_ends_with_0(packages: Path) -> None:
    with run(packages, "runs") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_engine_has_a_group_of_its_own_in_the_launcher_s_session(packages: Path) -> None:
    """Not signalled twice, and of no other priority than the launcher was given."""
    with run(packages, "tells") as process:
        assert process.wait(60) == launch.ENGINE_DIED  # an exit code of 0 that nobody asked for


def test_the_engine_dies_with_its_launcher(packages: Path) -> None:
    with run(packages, "runs") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        process.wait(60)
        # The pipe ends when the last process that holds it does.
        assert process.stdout.read() == ""
