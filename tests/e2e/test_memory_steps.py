"""A service whose GPUs have less memory free than is thought steps down until it starts."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.xdist_group("sandbox"), pytest.mark.slow, pytest.mark.timeout(420)]

TAKEN_GIB = 9
"""Of an H100's 79: at a fraction of 0.95 and 0.91 the engine asks for more than is left, at 0.87 for less."""

TAKEN = {
    "spec": {
        "containers": [{"name": "engine", "env": [{"name": "PLIMSOLL_GPU_MEMORY_TAKEN", "value": str(TAKEN_GIB)}]}]
    }
}


def status_of(sandbox: Sandbox, namespace: str, name: str) -> dict[str, Any]:
    """The status of a service."""
    status: dict[str, Any] = sandbox.kubectl.json("get", "llm", name, "-n", namespace)["status"]
    return status


def revisions(sandbox: Sandbox, namespace: str, name: str) -> int:
    """Configurations that were rolled out."""
    selector = f"{names.SERVICE_LABEL}={name}"
    return len(sandbox.kubectl.json("get", "replicasets", "-n", namespace, "-l", selector)["items"])


def test_a_service_steps_down_until_it_starts(
    sandbox: Sandbox, sandbox_namespace: str, apply_service: Callable[..., str]
) -> None:
    """One step for each start that fails; the status has what is in force, and why."""
    url = apply_service("tight", podTemplate=TAKEN)
    status = status_of(sandbox, sandbox_namespace, "tight")
    [step] = status["memorySteps"]
    assert (step["steps"], step["gpuMemoryUtilization"]) == (2, "0.87")
    assert step["accelerator"] == status["recommendation"]["config"]["accelerator"]
    assert "less than desired GPU memory utilization" in step["message"]
    assert revisions(sandbox, sandbox_namespace, "tight") == 3
    recommendation = status["recommendation"]
    assert recommendation["config"]["gpuMemoryUtilization"] == "0.87"
    [reason] = [one for one in recommendation["reasons"] if one["field"] == "gpuMemoryUtilization"]
    assert reason["because"].startswith("stepped down 2 times after CUDA out of memory on ")
    parts = ("weightsGib", "activationPeakGib", "nonTorchGib", "cudaGraphsGib", "kvCacheGib")
    held = sum(float(recommendation["ledger"][part]) for part in parts)
    assert held == pytest.approx(0.87 * float(recommendation["ledger"]["totalGib"]), abs=0.05)
    assert "MemorySteppedDown" in sandbox.kubectl("get", "events", "-n", sandbox_namespace)
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        assert json.load(answer)["data"][0]["id"] == "tight"


def test_what_is_pinned_stays_and_does_not_start(
    sandbox: Sandbox, sandbox_namespace: str, declare_service: Callable[..., None]
) -> None:
    """Control: without the steps the same GPUs do not do, and a condition says what to change."""
    pinned = {"gpuMemoryUtilization": "0.95", "maxNumSeqs": 64}
    declare_service("pinned", podTemplate=TAKEN, engine=pinned)
    sandbox.kubectl(
        "wait", "-n", sandbox_namespace, "--timeout=120s", "llm/pinned",
        '--for=jsonpath={.status.conditions[?(@.type=="Progressing")].reason}=OutOfGpuMemory', timeout=150.0,
    )  # fmt: skip
    status = status_of(sandbox, sandbox_namespace, "pinned")
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    assert "engine.gpuMemoryUtilization is pinned to 0.95" in conditions["Progressing"]["message"]
    assert conditions["Available"]["status"] == "False"
    assert "memorySteps" not in status
    assert revisions(sandbox, sandbox_namespace, "pinned") == 1
