"""Components start, are waited for, and end with the process that started them, also when it is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import processes
from plimsoll_cli.sandbox.fleet import Fleet
from plimsoll_cli.sandbox.processes import Component, Process


def component(tmp_path: Path, code: str, name: str = "part") -> Component:
    """A component that runs Python code."""
    return Component(name, (sys.executable, "-c", code), tmp_path / f"{name}.log", stop_seconds=5)


def started(tmp_path: Path, code: str) -> Process:
    """A component that has printed something."""
    process = processes.start(component(tmp_path, code))
    processes.wait_ready(process, lambda: "up" in process.component.log.read_text(), 20)
    return process


WAITS = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
WITH_CHILD = (
    "import subprocess, sys, signal; c = subprocess.Popen(['sleep', '300']);"
    "print('up', c.pid, flush=True); signal.pause()"
)


def test_a_component_that_ends_is_named_with_exit_code_and_log(tmp_path: Path) -> None:
    """What a person sees when a start fails."""
    process = processes.start(component(tmp_path, "import sys; print('no such flag: --frob'); sys.exit(3)"))
    with pytest.raises(CommandError) as failure:
        processes.wait_ready(process, lambda: False, 20)
    assert str(failure.value).startswith("part ended with exit code 3; the end of ")
    assert "no such flag: --frob" in str(failure.value)


def test_a_component_that_is_never_ready_is_named(tmp_path: Path) -> None:
    """The time it was given is in the message."""
    process = started(tmp_path, WAITS)
    with pytest.raises(CommandError, match="part was not ready after 0 s"):
        processes.wait_ready(process, lambda: False, 0)
    process.stop()


def test_a_program_that_does_not_exist_is_said_so(tmp_path: Path) -> None:
    """The shim's own failure reaches the message too."""
    process = processes.start(Component("part", ("/nonexistent/program",), tmp_path / "part.log"))
    with pytest.raises(CommandError, match="cannot run /nonexistent/program: No such file"):
        processes.wait_ready(process, lambda: False, 20)


def test_the_cause_is_shown_when_usage_follows_it(tmp_path: Path) -> None:
    """Prometheus prints a page of usage after the error."""
    log = tmp_path / "log"
    log.write_text("Error parsing command line: bad duration\n" + "  --flag\n" * 100)
    assert processes.log_end(log, lines=3) == (
        "  Error parsing command line: bad duration\n  ...\n    --flag\n    --flag\n    --flag"
    )
    assert processes.log_end(tmp_path / "absent") == ""


def test_stop_asks_first_and_kills_then(tmp_path: Path) -> None:
    """SIGTERM is enough for one that listens; one that does not is killed; a second stop does nothing."""
    polite = started(tmp_path, WAITS)
    polite.stop()
    assert polite.exit_code == -signal.SIGTERM
    polite.stop()
    deaf = processes.start(Component("deaf", (sys.executable, "-c", DEAF), tmp_path / "deaf.log", stop_seconds=0.2))
    processes.wait_ready(deaf, lambda: "up" in deaf.component.log.read_text(), 20)
    deaf.stop()
    assert deaf.exit_code == -signal.SIGKILL


def test_stop_takes_the_children_along(tmp_path: Path) -> None:
    """What a component left in its process group ends with it."""
    process = started(tmp_path, WITH_CHILD)
    child = os.pidfd_open(int(process.component.log.read_text().split()[1]))
    process.stop()
    assert select.select([child], [], [], 10)[0]
    os.close(child)


def test_a_component_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """The parent-death signal is sent when the starting THREAD ends; that must not be the caller's."""
    found: list[Process] = []
    thread = threading.Thread(target=lambda: found.append(started(tmp_path, WAITS)))
    thread.start()
    thread.join()
    handle = os.pidfd_open(found[0].pid)
    assert not select.select([handle], [], [], 0.3)[0]
    os.close(handle)
    found[0].stop()


def test_a_component_dies_with_its_owner(tmp_path: Path) -> None:
    """kill -9 of the owner: the kernel kills the component, nobody has to run for it."""
    code = (
        "import sys, signal, pathlib\n"
        "from plimsoll_cli.sandbox import processes\n"
        "c = processes.Component('part', ('/bin/sleep', '300'), pathlib.Path(sys.argv[1]))\n"
        "print(processes.start(c).pid, flush=True)\n"
        "signal.pause()\n"
    )
    log = str(tmp_path / "log")
    with subprocess.Popen([sys.executable, "-c", code, log], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        handle = os.pidfd_open(int(owner.stdout.readline()))
        assert not select.select([handle], [], [], 0)[0]
        owner.kill()
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)


def test_a_fleet_starts_again_what_crashed_and_not_what_was_stopped(tmp_path: Path) -> None:
    """A crash is counted and followed by a new process; a stopped component stays stopped."""
    changes = threading.Semaphore(0)
    fleet = Fleet(changed=changes.release)
    for name in ("one", "two"):
        fleet.launch(component(tmp_path, WAITS, name), lambda: True)
    fleet.watch()
    before = fleet.pids()
    fleet.stop("two")
    fleet.kill("one")
    while fleet.crashes()["one"] == 0 or fleet.pids()["one"] is None:
        assert changes.acquire(timeout=20)
    assert fleet.crashes() == {"one": 1, "two": 0}
    assert fleet.pids()["one"] != before["one"]
    assert fleet.pids()["two"] is None
    fleet.close()
    assert fleet.pids() == {"one": None, "two": None}
