# ruff: noqa: A005 (it lies in the package `bench`, where it shadows nothing)
"""The operator against a real API server: a burst of services, an idle fleet, and what the process needs.

The burst is one `kubectl apply` of a file of 200 services. Times are the API server's own, from its audit log: from the
request that stores a service to the answer to the request that creates its last child.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

from bench.figures import Context, Figure
from plimsoll_api import names
from plimsoll_cli.sandbox import definitions
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_kube.resources import (
    DEPLOYMENT,
    LLM_SERVICE,
    NETWORK_POLICY,
    NODE,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    SERVICE,
    Manifest,
)

SERVICES: Final = 200
CHILD_KINDS: Final = (DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET, NETWORK_POLICY, POD_MONITOR)
MODELS: Final = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-32B",
)
"""A fleet has many services of few models."""

IDLE_S: Final = 600.0
QUICK_IDLE_S: Final = 20.0
RESYNC: Final = "60s"
"""Shorter than the default of 5 min, so that the idle time holds several resyncs."""

SETTLE_LIMIT_S: Final = 120.0
OPERATOR_USER: Final = "system:serviceaccount:plimsoll-system:plimsoll-operator"
GPU_PRODUCT: Final = "NVIDIA-H100-80GB-HBM3"
NAMESPACE: Final = "fleet"


def run(context: Context) -> list[Figure]:
    """Time to owned children in a burst of 200, writes of the idle fleet, and the operator's memory."""
    with tempfile.TemporaryDirectory() as directory, ControlPlane.start(Path(directory)) as plane:
        prepare(plane)
        with operator_process(plane, context.output / "operator.log") as process:
            seconds = burst(plane, context.output / "fleet.yaml")
            before = writes(plane.audit_log)
            idle = QUICK_IDLE_S if context.quick else IDLE_S
            stay_idle(process, idle, context.output / "operator.log")
            idle_writes = writes(plane.audit_log) - before
            memory = resident_mib(process.pid)
    ordered = sorted(seconds)
    detail = f"one kubectl apply of {SERVICES} services, {len(MODELS)} models, last of {len(CHILD_KINDS)} children"
    p99 = ordered[max(0, round(0.99 * len(ordered)) - 1)]
    return [
        Figure("apply to owned children, p50", statistics.median(ordered), "s", detail=detail),
        Figure("apply to owned children, p99", p99, "s", bar=2.0, detail=detail),
        Figure("apply to owned children, worst", ordered[-1], "s"),
        Figure(
            "writes of an idle fleet",
            idle_writes,
            "requests",
            bar=0,
            comparison="==",
            detail=f"{SERVICES} services, {idle:.0f} s, resync every {RESYNC} to twice that, audit log less the Lease",
        ),
        Figure("writes per new service", before / SERVICES, "requests", detail="children, replicas, status, events"),
        Figure("operator resident memory", memory, "MiB", detail=f"after the burst, {SERVICES} services"),
    ]


def prepare(plane: ControlPlane) -> None:
    """Definitions, the operator's identity and rights, a namespace and a node with GPUs."""
    plane.kubectl.install_definitions(definitions.llm_service())
    plane.kubectl.install_definitions(definitions.pod_monitor())
    for name in ("00-namespace.yaml", "10-operator.yaml"):
        plane.kubectl.apply(resources.files("plimsoll_cli").joinpath("manifests", name).read_text(encoding="utf-8"))
    plane.kubectl("create", "namespace", NAMESPACE)
    node = NODE.manifest(None, "gpu-1", metadata={"labels": {names.GPU_PRODUCT_LABEL: GPU_PRODUCT}})
    plane.kubectl.apply(json.dumps(node))
    capacity = json.dumps({"status": {"capacity": {names.GPU_RESOURCE: "8"}}})
    plane.kubectl("patch", "node", "gpu-1", "--subresource=status", "--type=merge", "-p", capacity)


@contextmanager
def operator_process(plane: ControlPlane, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The operator as a process of its own, under its own service account."""
    kubeconfig = plane.kubeconfig_for("plimsoll-system", "plimsoll-operator")
    command = [sys.executable, "-m", "plimsoll_operator", "--kubeconfig", str(kubeconfig), "--resync", RESYNC]
    with log.open("wb") as stderr:
        process = subprocess.Popen([*command, "--health-port=0", "--metrics-port=0"], stderr=stderr)
        try:
            wait_for(lambda: b'"leading"' in log.read_bytes(), 30.0, "the operator does not lead")
            time.sleep(3.0)  # its watches open
            yield process
        finally:
            process.terminate()
            process.wait(30)


def burst(plane: ControlPlane, file: Path) -> list[float]:
    """Store the services and return, for each, the seconds until its last child was created."""
    file.write_text("\n---\n".join(json.dumps(service(number)) for number in range(SERVICES)), encoding="utf-8")
    plane.kubectl("apply", "-f", str(file), timeout=SETTLE_LIMIT_S)
    wait_for(lambda: settled(plane), SETTLE_LIMIT_S, "some services have no status of their newest generation")
    time.sleep(5.0)  # the echoes of the last writes
    return time_to_children(plane.audit_log)


def settled(plane: ControlPlane) -> bool:
    """Whether every service's status is of its newest generation."""
    items = plane.kubectl.json("get", names.PLURAL, "-n", NAMESPACE)["items"]
    return all((item.get("status") or {}).get("observedGeneration") == item["metadata"]["generation"] for item in items)


def time_to_children(audit_log: Path) -> list[float]:
    """Seconds from each service's storing to the creation of its last child.

    Raises:
        ValueError: a service has fewer children than it should.
    """
    stored: dict[str, datetime] = {}
    created: dict[str, list[datetime]] = defaultdict(list)
    kinds = {kind.plural for kind in CHILD_KINDS}
    for line in audit_log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        target = entry.get("objectRef") or {}
        if target.get("namespace") != NAMESPACE or entry["responseStatus"].get("code") != 201:
            continue
        if target["resource"] == names.PLURAL:
            stored[target["name"]] = datetime.fromisoformat(entry["requestReceivedTimestamp"])
        elif target["resource"] in kinds:
            owner = target["name"].removesuffix("-engine")
            created[owner].append(datetime.fromisoformat(entry["stageTimestamp"]))
    short = [name for name in stored if len(created[name]) != len(CHILD_KINDS)]
    if short or len(stored) != SERVICES:
        raise ValueError(f"{len(stored)} services stored, {len(short)} of them without all children: {short[:3]}")
    return [(max(created[name]) - began).total_seconds() for name, began in stored.items()]


def service(number: int) -> Manifest:
    """One of the fleet's services."""
    spec = {"model": {"uri": f"hf://{MODELS[number % len(MODELS)]}"}, "workload": {"requestsPerSecond": 2}}
    return LLM_SERVICE.manifest(NAMESPACE, f"svc-{number:03d}", spec=spec)


def stay_idle(process: subprocess.Popen[bytes], seconds: float, log: Path) -> None:
    """Wait while the operator runs: one that has ended writes nothing either.

    Raises:
        RuntimeError: it ended.
    """
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    raise RuntimeError(f"the operator ended with {code} while idle (a busy machine costs it the Lease): {last}")


def writes(audit_log: Path) -> int:
    """Write requests of the operator in the audit log, those that keep the Lease left out."""
    count = 0
    for line in audit_log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["user"]["username"] != OPERATOR_USER or entry["verb"] in ("get", "list", "watch"):
            continue
        count += (entry.get("objectRef") or {}).get("resource") != "leases"
    return count


def resident_mib(pid: int) -> float:
    """Resident memory of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def wait_for(condition: Any, seconds: float, otherwise: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not, in time.
    """
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.1)
