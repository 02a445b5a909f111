"""A process that a sandbox left behind is found, however it is marked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plimsoll_cli.demo.leftovers import processes_of

WAIT_FOR_STDIN = "import sys; print('up', flush=True); sys.stdin.read()"


@contextmanager
def running(*arguments: str, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """A process that lives until the block ends."""
    process = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", WAIT_FOR_STDIN, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **settings,
    )
    try:
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.communicate()


def test_nothing_is_found_where_nothing_runs(tmp_path: Path) -> None:
    """Control: this test's own process does not count."""
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("way", ["argument", "environment", "folder"])
def test_a_process_is_found(tmp_path: Path, way: str) -> None:
    """By its command line, its environment or the folder it works in."""
    arguments = (str(tmp_path / "config"),) if way == "argument" else ()
    environment = {"MARK": str(tmp_path)} if way == "environment" else {}
    folder = tmp_path if way == "folder" else Path("/")
    with running(*arguments, env=environment, cwd=folder) as process:
        assert [text for text in processes_of(tmp_path) if f"(pid {process.pid})" in text]
    assert processes_of(tmp_path) == []
