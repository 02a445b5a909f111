"""The operator as a process of its own, under its own service account, against a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_cli.sandbox.control_plane import ControlPlane

GPU_PRODUCT = "NVIDIA-H100-80GB-HBM3"
USER = "system:serviceaccount:plimsoll-system:plimsoll-operator"
LEASE_SECONDS = 10
"""A leader stops after two thirds of it without a renewal: a busy machine may need seconds for one."""
PATIENCE_SECONDS = 60.0
"""An operator starts within 5 s on an idle 2-core machine; a busy one gets twelve times that."""
KINDS = "deployments,services,poddisruptionbudgets,networkpolicies,podmonitors,persistentvolumeclaims"


def _eventually(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """The first result of `what` that is true; the last error or result when there is none in time."""
    ends = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < ends:
        try:
            last = what()
            if last:
                return last
        except Exception as error:  # what is asked for may not exist yet
            last = error
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {last!r}")


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(lambda: ...)` waits for a first true result; errors until then are passed over."""
    return _eventually


class OperatorProcess:
    """A running operator."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        *whole, _unfinished = self.log.read_text().split("\n")
        return [json.loads(line) for line in whole if line.startswith("{")]

    @property
    def leading(self) -> bool:
        """Whether it has the Lease."""
        return any(line["event"] == "leading" for line in self.lines())

    def url(self, what: str, path: str) -> str:
        """Address of its health or metrics port."""
        port = _eventually(lambda: [line["port"] for line in self.lines() if line.get("what") == what])[0]
        return f"http://127.0.0.1:{port}{path}"

    def fetch(self, what: str, path: str) -> str:
        """What one of its ports answers."""
        with urllib.request.urlopen(self.url(what, path), timeout=30) as answer:
            return str(answer.read().decode())

    def reconciles(self) -> float:
        """Reconciles so far that changed nothing or something; those of an earlier test's service found it gone."""
        return self._sum("plimsoll_reconcile_total{", besides='result="gone"')

    def gets(self) -> float:
        """Things it has read one by one so far: a standby reads the Lease at every try to take it."""
        return self._sum('plimsoll_api_requests_total{code="200",verb="get"}')

    def _sum(self, series: str, besides: str | None = None) -> float:
        """Sum of the samples whose lines begin like this, without those that hold a text."""
        lines = [line for line in self.fetch("metrics", "/metrics").splitlines() if line.startswith(series)]
        return sum(float(line.split()[-1]) for line in lines if besides is None or besides not in line)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture(scope="session")
def identity(control_plane: ControlPlane) -> Path:
    """The operator's kubeconfig, with its rights installed and a node with GPUs in the cluster."""
    kubectl = control_plane.kubectl
    for name in ("00-namespace.yaml", "10-operator.yaml"):
        kubectl.apply(resources.files("plimsoll_cli").joinpath("manifests", name).read_text(encoding="utf-8"))
    labels = {names.GPU_PRODUCT_LABEL: GPU_PRODUCT}
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1", "labels": labels}}))
    capacity = json.dumps({"status": {"capacity": {names.GPU_RESOURCE: "8"}}})
    kubectl("patch", "node", "gpu-1", "--subresource=status", "--type=merge", "-p", capacity)
    return control_plane.kubeconfig_for("plimsoll-system", "plimsoll-operator")


@contextmanager
def running(identity: Path, log: Path, *arguments: str) -> Iterator[OperatorProcess]:
    """An operator process; on a failure the end of its log is shown."""
    command = [sys.executable, "-m", "plimsoll_operator", f"--kubeconfig={identity}", "--health-port=0"]
    command += ["--metrics-port=0", f"--lease-duration={LEASE_SECONDS}s", *arguments]
    with log.open("wb") as stderr:
        started = OperatorProcess(subprocess.Popen(command, stderr=stderr), log)
    try:
        yield started
    except BaseException:
        print("\n".join(log.read_text().splitlines()[-20:]))
        raise
    finally:
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(30)


@pytest.fixture
def start(identity: Path, tmp_path: Path) -> Callable[..., Any]:
    """`with start("--resync=1s") as operator:` runs an operator process."""
    count = iter(range(100))
    return lambda *arguments: running(identity, tmp_path / f"operator-{next(count)}.log", *arguments)


@pytest.fixture(scope="module")
def operator(identity: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for the tests of a module, which resyncs every second or two."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    # Nobody is to follow it: a Lease that long is not lost to a busy machine.
    with running(identity, log, "--resync=1s", "--lease-duration=30s") as process:
        _eventually(lambda: process.leading)
        yield process


class Services:
    """LLMServices of one namespace, through the real kubectl."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.kubectl = plane.kubectl
        self.audit_log = plane.audit_log
        self.namespace = namespace
        self._count, self._changed = -1, 0.0

    def manifest(self, name: str, **spec: Any) -> dict[str, Any]:
        """An LLMService."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}, **spec},
        }

    def apply(self, name: str = "chat", **spec: Any) -> None:
        """kubectl apply."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(self.manifest(name, **spec)))

    def apply_many(self, names_: list[str], **spec: Any) -> None:
        """One kubectl apply of services that differ only in their names."""
        items = [self.manifest(name, **spec) for name in names_]
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        """kubectl get -o json."""
        return self.kubectl.json("get", kind, *([name] if name else []), "-n", self.namespace, "--show-managed-fields")

    def run(self, *arguments: str) -> str:
        """Any kubectl command in the namespace."""
        return self.kubectl(*arguments, "-n", self.namespace)

    def condition(self, kind: str, name: str = "chat") -> tuple[str, str]:
        """Status and reason of a condition."""
        conditions = self.get("llm", name)["status"]["conditions"]
        found = next(entry for entry in conditions if entry["type"] == kind)
        return found["status"], found["reason"]

    def children(self, name: str = "chat") -> set[str]:
        """Everything with the service's label, as KIND/NAME."""
        found = self.kubectl.json("get", KINDS, "-n", self.namespace, "-l", f"{names.SERVICE_LABEL}={name}")["items"]
        return {f"{item['kind']}/{item['metadata']['name']}" for item in found}

    def everything(self) -> dict[str, dict[str, Any]]:
        """Every object of the namespace that matters, by KIND/NAME."""
        found = self.kubectl.json("get", f"llm,{KINDS}", "-n", self.namespace)["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}

    def settled(self, name: str = "chat") -> bool:
        """Whether the status is of the newest spec."""
        service = self.get("llm", name)
        return bool(service["status"]["observedGeneration"] == service["metadata"]["generation"])

    def at_rest(self, seconds: float = 1.5) -> bool:
        """Whether the operator has written nothing for a while: status and events follow the children, later."""
        count, now = len(self.writes()), time.monotonic()
        if count != self._count:
            self._count, self._changed = count, now
        rested = now - self._changed >= seconds
        if rested:
            self._count = -1  # the next wait is for a rest of its own
        return rested

    def writes(self) -> list[str]:
        """Write requests of the operator to this namespace."""
        found = []
        *whole, _unfinished = self.audit_log.read_text(encoding="utf-8").split("\n")
        for line in whole:
            entry = json.loads(line)
            target = entry.get("objectRef") or {}
            if entry["user"]["username"] != USER or target.get("namespace") != self.namespace:
                continue
            if entry["verb"] not in ("get", "list", "watch"):
                found.append(
                    f"{entry['verb']} {target['resource']}/{target.get('subresource', '')} {target.get('name')}"
                )
        return found


@pytest.fixture
def services(control_plane: ControlPlane, namespace: str) -> Iterator[Services]:
    """LLMServices of a namespace of one's own; no controller runs that would delete them with it."""
    own = Services(control_plane, namespace)
    yield own
    own.run("delete", "llm", "--all")
