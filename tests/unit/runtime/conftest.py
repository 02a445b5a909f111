"""A simulated engine as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MODEL = "Qwen/Qwen2.5-7B-Instruct"


class Engine:
    """An engine process."""

    def __init__(self, flags: tuple[str, ...], log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "plimsoll_runtime.engine", MODEL, "--served-model-name", "m"]
        command += ["--host", "127.0.0.1", "--port", "0", "--max-model-len", "4096", *flags]
        variables = {key: value for key, value in os.environ.items() if not key.startswith("PLIMSOLL_")}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file, env=variables)

    def wait_for(self, event: str, seconds: float = 60) -> dict[str, object]:
        """The first log line of an event."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in self.log.read_text().splitlines():
                if line.endswith("}") and json.loads(line)["event"] == event:
                    return dict(json.loads(line))
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"no {event!r}; the log ends:\n{self.log.read_text()[-2000:]}")

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        return f"http://127.0.0.1:{self.wait_for('listening')['port']}"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Starts engines; all are ended with the test."""
    started: list[Engine] = []

    def start(*flags: str) -> Engine:
        started.append(Engine(flags, tmp_path / f"engine-{len(started)}.log"))
        return started[-1]

    yield start
    for item in started:
        if item.process.poll() is None:
            item.process.kill()
        item.process.wait()
