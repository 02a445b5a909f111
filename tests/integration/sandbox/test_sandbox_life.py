"""A sandbox from the command line: ready when `up` returns, gone when `down` does, gone when it is killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plimsoll_cli.sandbox.sandbox import MARKER

pytestmark = [
    pytest.mark.api_server,
    pytest.mark.slow,
    pytest.mark.xdist_group("sandbox-life"),
    pytest.mark.timeout(300),  # each brings whole sandboxes up and down, on two cores beside other tests
]

WITHOUT = "--without=operator,detector,node-agent"
DEADLINE_SECONDS = 60.0
POD_SECONDS = "3217"
"""How long the pod of a test sleeps: longer than any test, and a number to know it by."""
MONITORING = """
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: chat-engine, namespace: default}
spec:
  selector: {matchLabels: {plimsoll.dev/service: chat}}
  podMetricsEndpoints: [{port: http, interval: 5s}]
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: own, namespace: default}
spec:
  groups: [{name: own, rules: [{record: "always:one", expr: vector(1)}]}]
"""


@dataclass(frozen=True)
class Cli:
    """The command line with a state folder of its own."""

    state: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `plimsoll sandbox ...`."""
        return subprocess.Popen(
            [sys.executable, "-m", "plimsoll_cli", "sandbox", *arguments],
            env={**os.environ, "XDG_STATE_HOME": str(self.state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that starts the tests in its background has them ignore Ctrl-C, which their children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run `plimsoll sandbox ...` to its end; returns standard output, or standard error of a failure."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=150)
        assert process.returncode == code, output + errors
        return errors if code else output

    def folder(self, name: str) -> Path:
        """State of one sandbox."""
        return self.state / "plimsoll" / "sandboxes" / name

    def is_ready(self, name: str) -> bool:
        """Whether `status` says that every component answers."""
        process = self.start("status", "--name", name)
        process.communicate(timeout=150)
        return process.returncode == 0

    def status(self, name: str) -> dict[str, Any]:
        """`status -o json`."""
        found: dict[str, Any] = json.loads(self("status", "--name", name, "-o", "json"))
        return found


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """A command line whose sandboxes all end with the test."""
    command = Cli(tmp_path)
    yield command
    command("down", "--all")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A command line with a sandbox `standing`, for tests that leave it as it is."""
    command = Cli(tmp_path_factory.mktemp("standing"))
    command("up", "--name", "standing", WITHOUT)
    yield command
    command("down", "--all")


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def all_end(handles: list[int]) -> bool:
    """Whether every process behind these pidfds ends in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    for handle in handles:
        if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        os.close(handle)
    return True


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text and int(entry.name) != os.getpid():
            found.append(text.decode(errors="replace").replace("\0", " ")[:200])
    return found


def pod_process(folder: Path) -> int:
    """Process id of the sleeping pod of the sandbox in `folder`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if (
            b"sleep" in arguments[0]
            and arguments[1:2] == [POD_SECONDS.encode()]
            and f"{MARKER}={folder}".encode() in environment
        ):
            return int(entry.name)
    raise AssertionError("the pod runs no process")


def bystander(folder: Path) -> subprocess.Popen[bytes]:
    """A process that carries the sandbox's marker but is nobody's child in it: like a pod that lost its agent."""
    marked = {**os.environ, MARKER: str(folder)}
    return subprocess.Popen(["sleep", "300"], env=marked, start_new_session=True)


def test_up_status_exec_logs_down(standing: Cli) -> None:
    """The whole life of one beside another."""
    cli = standing
    printed = cli("up", "--name", "one", WITHOUT)
    kubeconfig = Path(printed.split("export KUBECONFIG=")[1].split()[0])
    assert kubeconfig.stat().st_mode & 0o077 == 0
    status = cli.status("one")
    assert [c["name"] for c in status["components"]] == [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "prometheus",
    ]
    assert all(c["ready"] and c["pid"] for c in status["components"])
    assert "plimsoll-system" in cli("exec", "--name", "one", "--", "kubectl", "get", "namespaces")
    assert "127." in cli("logs", "kube-apiserver", "--name", "one")

    assert "sandbox one runs already" in cli("up", "--name", "one", code=1)
    assert cli.status("standing")["apiServer"] != status["apiServer"]

    cli("down", "--name", "one")
    assert processes_of(cli.folder("one")) == []
    assert all(c["ready"] for c in cli.status("standing")["components"])
    assert "sandbox one does not run" in cli("status", "--name", "one", code=3)


def test_kill_9_of_the_supervisor_leaves_nothing(cli: Cli) -> None:
    """Components by the kernel's signal, pods by their shim, everything else that carries the marker by the guard."""
    cli("up", "--name", "killed", "--without=operator,detector")
    cli("exec", "--name", "killed", "kubectl", "run", "sleeper", "--image=localhost/any", "--", "sleep", POD_SECONDS)
    cli("exec", "--name", "killed", "kubectl", "wait", "pod/sleeper", "--for=condition=Ready", "--timeout=60s")
    status = cli.status("killed")
    handles = [os.pidfd_open(component["pid"]) for component in status["components"]]
    handles.append(os.pidfd_open(pod_process(cli.folder("killed"))))
    with bystander(cli.folder("killed")) as stray:
        handles.append(os.pidfd_open(stray.pid))
        assert not select.select(handles, [], [], 0)[0], "control: all are alive before"
        os.kill(status["pid"], signal.SIGKILL)
        assert all_end(handles)
    until(lambda: processes_of(cli.folder("killed")) == [])
    cli("up", "--name", "killed", WITHOUT)  # what it left in its folder is no obstacle


def test_ctrl_c_while_starting_leaves_nothing(cli: Cli) -> None:
    """An interrupted `up` ends with 130 and takes the supervisor with it."""
    starting = cli.start("up", "--name", "hasty", WITHOUT)
    until((cli.folder("hasty") / "logs" / "etcd.log").exists)
    starting.send_signal(signal.SIGINT)
    _, errors = starting.communicate(timeout=60)
    assert starting.returncode == 130, errors
    until(lambda: processes_of(cli.folder("hasty")) == [])


def test_a_crashed_component_is_started_again(standing: Cli) -> None:
    """As a kubelet would: with a pause, and counted."""
    before = next(c for c in standing.status("standing")["components"] if c["name"] == "kube-scheduler")
    os.kill(before["pid"], signal.SIGKILL)

    def again() -> bool:
        state = json.loads((standing.folder("standing") / "state.json").read_text())
        now = next(c for c in state["components"] if c["name"] == "kube-scheduler")
        return bool(now["crashes"] == 1 and now["pid"] not in (None, before["pid"]))

    until(again)
    # Started is not yet ready, and the next test asks for a sandbox that is.
    until(lambda: standing.is_ready("standing"))


def test_prometheus_follows_pod_monitors_and_rules(standing: Cli, tmp_path: Path) -> None:
    """It scrapes by a PodMonitor and evaluates a PrometheusRule that is created, and no longer when it is deleted."""
    url = standing.status("standing")["prometheus"] + "/api/v1"

    def asked(path: str) -> str:
        with urllib.request.urlopen(f"{url}/{path}", timeout=DEADLINE_SECONDS) as answer:
            return str(answer.read())

    def follows() -> tuple[bool, bool]:
        return "podMonitor/default/chat-engine/0" in asked("status/config"), "always:one" in asked("rules")

    manifest = tmp_path / "monitoring.yaml"
    manifest.write_text(MONITORING)
    until(lambda: "PlimsollStalled" in asked("rules"))
    assert follows() == (False, False)
    standing("exec", "--name", "standing", "--", "kubectl", "apply", "-f", str(manifest))
    until(lambda: follows() == (True, True))
    standing("exec", "--name", "standing", "--", "kubectl", "delete", "-f", str(manifest))
    until(lambda: follows() == (False, False))
