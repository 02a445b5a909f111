"""Processes through their shim: started, signalled, found again, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from plimsoll_cli.sandbox.node.container_process import (
    ContainerProcess,
    Exit,
    Launch,
    StartError,
    end_all,
    find_again,
    launch,
    read_json,
)


def shell(script: str, supervisor: int | None = None) -> Launch:
    """A shell script."""
    return Launch(
        ("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}, "/", supervisor_pid=supervisor or os.getpid()
    )


def alive(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def sleeper() -> subprocess.Popen[bytes]:
    """A process that does nothing."""
    return subprocess.Popen(["sleep", "600"])


async def started(run: Path, script: str) -> ContainerProcess:
    """A script that has written its first line."""
    process = await launch(run, shell(script))
    while not (run / "log").read_bytes():
        await asyncio.sleep(0.01)
    return process


async def test_exit_codes(tmp_path: Path) -> None:
    """Of its own, and 128 + n for a signal."""
    ended = await (await launch(tmp_path / "0", shell("echo out; echo err >&2; exit 7"))).wait()
    assert (ended.code, ended.signal) == (7, 0)
    assert (tmp_path / "0" / "log").read_text() == "out\nerr\n"
    ended = await (await launch(tmp_path / "1", shell("kill -9 $$"))).wait()
    assert (ended.code, ended.signal) == (137, 9)


async def test_niceness_holds_against_other_sessions(tmp_path: Path) -> None:
    """The process's own, and its session's where the kernel schedules sessions against each other."""
    shown = "cut -d' ' -f19 /proc/self/stat; sed 's/.*nice //' /proc/self/autogroup 2>/dev/null || echo none"
    process = await launch(tmp_path / "0", replace(shell(shown), nice=7))
    await process.wait()
    own, session = (tmp_path / "0" / "log").read_text().split()
    assert own == "7"
    assert session in ("7", "none")


async def test_a_program_that_cannot_be_executed(tmp_path: Path) -> None:
    """Named with the reason, and found again as such."""
    with pytest.raises(StartError, match=r"/no/such/program: No such file or directory"):
        await launch(tmp_path / "0", Launch(("/no/such/program",)))
    found = await find_again(tmp_path / "0")
    assert isinstance(found, Exit)
    assert found.code == 128


async def test_signals_reach_the_group(tmp_path: Path) -> None:
    """SIGTERM to parent and child; SIGKILL to one that ignores it."""
    process = await started(
        tmp_path / "0", "trap 'wait; exit 3' TERM; (trap 'exit 0' TERM; echo up; sleep 60 & wait) & wait"
    )
    process.terminate()
    assert (await process.wait()).code == 3
    process = await started(tmp_path / "1", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    process.terminate()
    await asyncio.sleep(0.1)
    assert not process.exited.is_set()
    process.kill()
    assert (await process.wait()).signal == 9


async def test_strays_end_with_the_container(tmp_path: Path) -> None:
    """Also one in a session of its own whose parent is gone."""
    process = await launch(tmp_path / "0", shell("(setsid sleep 600 & echo $!) ; sleep 0.1"))
    await process.wait()
    stray = int((tmp_path / "0" / "log").read_text())
    assert not alive(stray)


async def test_found_again(tmp_path: Path) -> None:
    """Running, then ended, then with its shim killed; and a pid that belongs to somebody else now."""
    run = tmp_path / "0"
    first = await started(run, "echo up; sleep 600")
    first.let_go()
    again = await find_again(run)
    assert isinstance(again, ContainerProcess)
    again.terminate()
    assert (await again.wait()).signal == signal.SIGTERM

    lost = await started(tmp_path / "1", "echo $$; exec sleep 600")
    shim = read_json(tmp_path / "1" / "started.json")
    assert shim is not None
    os.kill(shim["shim"], signal.SIGKILL)
    ended = await lost.wait()
    assert ended.lost
    container = int((tmp_path / "1" / "log").read_text())
    while alive(container):  # the kernel kills it with its parent
        await asyncio.sleep(0.01)

    run = tmp_path / "2"
    run.mkdir()
    (run / "started.json").write_text(json.dumps({"shim": os.getpid(), "shim_start": 1, "started_at": 5}))
    other = await find_again(run)
    assert isinstance(other, Exit)
    assert other.lost


async def test_the_supervisor_s_end_is_the_container_s(tmp_path: Path) -> None:
    """However it ends; and nothing starts for one that has ended."""
    supervisor = sleeper()
    process = await launch(tmp_path / "0", shell("trap '' TERM; sleep 600 & wait", supervisor.pid))
    supervisor.kill()
    supervisor.wait()
    assert (await asyncio.wait_for(process.wait(), 60)).signal == 9
    with pytest.raises(StartError, match="sandbox ended"):
        await launch(tmp_path / "1", shell("true", supervisor.pid))


async def test_end_all(tmp_path: Path) -> None:
    """Everything below a state directory, and only once."""
    runs = [tmp_path / "pods" / pod / "containers" / "c" / "0" for pod in "ab"]
    processes = [await launch(run, shell("sleep 600")) for run in runs]
    assert await asyncio.to_thread(end_all, tmp_path) == 2
    for process in processes:
        assert (await process.wait()).signal == 9
    assert end_all(tmp_path) == 0
