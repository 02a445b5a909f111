"""A real control plane with controller-manager and scheduler, and the node agent as its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_cli.sandbox.control_plane import ORDER, ControlPlane
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.node.container_process import end_all
from plimsoll_cli.sandbox.processes import log_end

PATIENCE_SECONDS = 60.0
"""What takes a second on an idle machine, on one that is sixty times too slow."""
POLL_SECONDS = 0.05
ENGINE = str(Path(__file__).with_name("streaming_server.py"))


@dataclass
class Agent:
    """The node agent, started as the sandbox starts it."""

    plane: ControlPlane
    directory: Path
    kubeconfig: Path
    supervisor: subprocess.Popen[bytes] | None = None
    process: subprocess.Popen[bytes] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What it says on stderr."""
        return self.directory / "agent.log"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.directory / "state"

    def configuration(self) -> dict[str, Any]:
        """Two nodes with GPUs, programs of this machine for busybox, a streaming server for vLLM."""
        block = self.plane.layout.block
        nodes = [
            {
                "name": name,
                "gpu_product": "NVIDIA-H100-80GB-HBM3",
                "gpu_memory_mib": 81559,
                "capacity": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "4"},
            }
            for name in ("gpu-0", "gpu-1")
        ]
        addresses = block.pod_cidr.removesuffix("0/16")
        pair = self.plane.authority.server("kubelet", tuple(f"{addresses}{n}" for n in (1, 2)))
        return {
            "nodes": nodes,
            "pod_cidr": block.pod_cidr,
            "state_directory": str(self.state),
            "images": [
                {"pattern": "busybox:*", "local": True},
                {"pattern": "vllm/vllm-openai:*", "commands": {"vllm serve": [sys.executable, ENGINE]}},
            ],
            "environment": {"FROM_SANDBOX": "yes"},
            "supervisor_pid": self.supervisor.pid if self.supervisor else None,
            "kubelet_certificate": str(pair.certificate),
            "kubelet_key": str(pair.key),
            "client_authority": str(self.plane.authority.certificate),
            "restart_backoff_seconds": 0.3,
            "restart_backoff_limit_seconds": 2.0,
            "retry_seconds": 0.2,
            **self.overrides,
        }

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        file = self.directory / "node.json"
        file.write_text(json.dumps(self.configuration()))
        seen = self.log.read_text().count('"event": "ready"') if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "plimsoll_cli.sandbox.node",
                    f"--kubeconfig={self.kubeconfig}",
                    f"--config={file}",
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.log.read_text().count('"event": "ready"') == seen:
            assert self.process.poll() is None, log_end(self.log)
            assert time.monotonic() < deadline, log_end(self.log)
            time.sleep(POLL_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; its containers go on."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None


def containers_running(state: Path) -> list[int]:
    """Process ids whose environment or command line names a state directory."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            text += os.readlink(folder / "cwd").encode()
        except OSError:
            continue
        if str(state).encode() in text:
            found.append(int(folder.name))
    return found


def make_agent(plane: ControlPlane, directory: Path) -> Agent:
    """An agent with its own identity and role, not yet started."""
    role = Path(sys.modules["plimsoll_cli.sandbox.node.container_process"].__file__ or "").with_name("rbac.yaml")
    plane.kubectl.apply(role.read_text())
    kubeconfig = plane.kubeconfig_for("kube-system", "sandbox-node")
    plane.kubectl.apply(
        yaml.safe_dump(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "plimsoll-sandbox-node"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "plimsoll-sandbox-node",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "sandbox-node", "namespace": "kube-system"}],
            }
        )
    )
    return Agent(plane, directory, kubeconfig)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""
    with ControlPlane.start(tmp_path_factory.mktemp("cluster"), components=ORDER) as plane:
        yield plane


@pytest.fixture(scope="session")
def agent(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A running node agent with a supervisor; at the end nothing of it is left."""
    agent = make_agent(cluster, tmp_path_factory.mktemp("agent"))
    agent.supervisor = subprocess.Popen(["sleep", "infinity"])
    try:
        agent.start()
        yield agent
    finally:
        agent.stop()
        agent.supervisor.kill()
        agent.supervisor.wait()
        end_all(agent.state)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := containers_running(agent.state)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    assert not left


@pytest.fixture
def new_agent() -> Callable[[ControlPlane, Path, str], Agent]:
    """Makes an agent with one node of its own, on addresses of its own."""

    def make(plane: ControlPlane, directory: Path, node: str) -> Agent:
        agent = make_agent(plane, directory)
        block = plane.layout.block
        agent.overrides = {
            "nodes": [{"name": node}],
            "pod_cidr": block.pod_cidr.replace(".0.0/16", ".128.0/17"),
            "kubelet_certificate": None,
            "kubelet_key": None,
            "front": False,
        }
        return agent

    return make


@pytest.fixture
def running() -> Callable[[Path], list[int]]:
    """Processes that belong to a state directory."""
    return containers_running


class Space:
    """A namespace of one test, and what tests do in it."""

    def __init__(self, agent: Agent, name: str) -> None:
        self.agent = agent
        self.name = name
        self.kubectl: Kubectl = agent.plane.kubectl

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests in the namespace."""
        for manifest in manifests:
            manifest.setdefault("metadata", {})["namespace"] = self.name
        self.kubectl.apply("---\n".join(yaml.safe_dump(manifest) for manifest in manifests))

    def run(self, name: str, *containers: dict[str, Any], labels: dict[str, str] | None = None, **spec: Any) -> None:
        """Create a pod; a container without image is a busybox."""
        for index, container in enumerate((*containers, *spec.get("initContainers", ()))):
            container.setdefault("image", "busybox:1")
            container.setdefault("name", "main" if index == 0 else f"c{index}")
        spec.setdefault("automountServiceAccountToken", False)
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"containers": list(containers), **spec},
        }
        self.apply(manifest)

    def pod(self, name: str) -> dict[str, Any]:
        """A pod as the API server has it."""
        return self.kubectl.json("get", "pod", name, "-n", self.name)

    def until(self, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until something holds of a pod, and return it; shows pod and log when it does not."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            pod = self.pod(name)
            if holds(pod):
                return pod
            if time.monotonic() > deadline:
                status = yaml.safe_dump(pod["status"])
                pytest.fail(f"not in {PATIENCE_SECONDS:g} s; status:\n{status}\nagent log:\n{log_end(self.agent.log)}")
            time.sleep(POLL_SECONDS)

    def until_gone(self, name: str) -> None:
        """Wait until a pod does not exist."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.kubectl.attempt("get", "pod", name, "-n", self.name).returncode == 0:
            assert time.monotonic() < deadline, log_end(self.agent.log)
            time.sleep(POLL_SECONDS)

    def logs(self, name: str, *arguments: str, lines: int = 0) -> str:
        """kubectl logs, once it has so many lines: a container that runs may not have written them yet."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (text := self.kubectl("logs", name, "-n", self.name, *arguments)).count("\n") < lines:
            assert time.monotonic() < deadline, f"fewer than {lines} lines: {text!r}\n{log_end(self.agent.log)}"
            time.sleep(POLL_SECONDS)
        return text

    def events(self, name: str) -> set[str]:
        """Reasons of the events about a pod."""
        selector = f"involvedObject.name={name}"
        items = self.kubectl.json("get", "events", "-n", self.name, f"--field-selector={selector}")["items"]
        return {item["reason"] for item in items}

    def until_events(self, name: str, reasons: set[str]) -> None:
        """Wait until there are events of these reasons about a pod: nothing waits for them to be written."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reasons <= (seen := self.events(name)):
            assert time.monotonic() < deadline, f"no events {reasons - seen}\n{log_end(self.agent.log)}"
            time.sleep(POLL_SECONDS)


@pytest.fixture
def space(agent: Agent) -> Iterator[Space]:
    """A fresh namespace, removed with everything in it."""
    kubectl = agent.plane.kubectl
    name = f"node-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    # Made by the controller manager, whose start nobody has waited for.
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s", timeout=90)
    yield Space(agent, name)
    kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--wait=false")
    kubectl("delete", "namespace", name, "--wait=false")
