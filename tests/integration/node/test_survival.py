"""Containers outlive the node agent and never the sandbox."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("node_agent")]

PATIENCE_SECONDS = 60.0
"""What takes a second on an idle machine, on one that is sixty times too slow."""


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def ready_since(pod: dict[str, Any]) -> str:
    """When a pod became Ready."""
    return str(next(c["lastTransitionTime"] for c in pod["status"]["conditions"] if c["type"] == "Ready"))


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended."""
    until(lambda: not Path(f"/proc/{pid}").exists())


def volume(space: Any, pod: dict[str, Any]) -> Path:
    """Where a pod's volume `d` lies."""
    return Path(space.agent.state) / "pods" / pod["metadata"]["uid"] / "volumes" / "d"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_agent_takes_its_containers_up(space: Any, number: signal.Signals) -> None:
    """Same process, same address, no restart; an exit in between is seen with its code; deletion works."""
    shared = {"volumeMounts": [{"name": "d", "mountPath": "/mnt/d"}]}
    volumes = {"volumes": [{"name": "d", "emptyDir": {}}]}
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "initialDelaySeconds": 1, "timeoutSeconds": 30}
    noted = {**probe, "exec": {"command": ["sh", "-c", "echo >> /mnt/d/probes"]}}
    probed = {"startupProbe": probe, "readinessProbe": noted, "livenessProbe": probe, **shared}
    staying, going = "echo $$$$; exec sleep 600", "echo $$$$; until test -e /mnt/d/end; do sleep 0.05; done; exit 5"
    space.run("p", {"command": ["sh", "-c", staying], **probed}, terminationGracePeriodSeconds=1, **volumes)
    space.run("q", {"command": ["sh", "-c", going], **shared}, restartPolicy="Never", **volumes)
    before = space.until("p", is_ready)
    q = space.until("q", lambda p: p["status"]["phase"] == "Running")
    pid, ending = int(space.logs("p", lines=1)), int(space.logs("q", lines=1))
    space.agent.stop(number)
    (volume(space, q) / "end").touch()
    wait_for_end(ending)  # while nobody looks
    assert Path(f"/proc/{pid}").exists()
    probes = volume(space, before) / "probes"
    seen = probes.stat().st_size
    space.agent.start()
    until(lambda: probes.stat().st_size >= seen + 2)  # the new agent has judged it once, and reads what follows of that
    ended = space.until("q", lambda p: p["status"]["phase"] == "Failed")
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    after = space.until("p", is_ready)
    assert ready_since(after) == ready_since(before)  # it was never unready
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert int(space.logs("p")) == pid
    assert int(space.logs("q")) == ending
    space.kubectl("delete", "pod", "p", "-n", space.name, "--wait=false")
    space.until_gone("p")
    assert not Path(f"/proc/{pid}").exists()


def test_a_pod_deleted_while_no_agent_ran_is_ended(space: Any) -> None:
    """Its object is gone by force; the next agent finds the process and kills it."""
    space.run("p", {"command": ["sh", "-c", "echo $$$$; exec sleep 600"]})
    space.until("p", is_ready)
    pid = int(space.logs("p", lines=1))
    space.agent.stop()
    space.kubectl("delete", "pod", "p", "-n", space.name, "--grace-period=0", "--force")
    assert Path(f"/proc/{pid}").exists()
    space.agent.start()
    wait_for_end(pid)


def test_nothing_outlives_the_supervisor(
    cluster: Any, tmp_path: Path, new_agent: Callable[..., Any], running: Callable[[Path], list[int]]
) -> None:
    """kill -9 of the supervisor ends every container at once, with the agent alive or dead."""
    agent = new_agent(cluster, tmp_path, "lonely-0")
    agent.supervisor = subprocess.Popen(["sleep", "infinity"])
    try:
        agent.start()
        name = f"lonely-{tmp_path.name[-6:]}".replace("_", "-")
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": "lonely-0",
                "automountServiceAccountToken": False,
                "containers": [
                    {"name": "c", "image": "busybox:1", "command": ["sh", "-c", "setsid sleep 600 & sleep 600"]}
                ],
            },
        }

        # Made by the controller manager, whose start nobody has waited for; without it there can be no pod.
        cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "default", "--timeout=60s", timeout=90)
        cluster.kubectl.apply(yaml.safe_dump(manifest))
        cluster.kubectl("wait", f"pod/{name}", "-n", "default", "--for=condition=Ready", "--timeout=60s", timeout=90)
        agent.stop(signal.SIGKILL)
        assert running(agent.state)
    finally:
        agent.supervisor.send_signal(signal.SIGKILL)
        agent.supervisor.wait()
        agent.stop()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := running(agent.state):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    cluster.kubectl("delete", "pod", name, "-n", "default", "--grace-period=0", "--force")
    cluster.kubectl("delete", "node", "lonely-0")
