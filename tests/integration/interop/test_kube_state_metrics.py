"""The page's configuration and ClusterRole with the real kube-state-metrics, on a service that serves."""

from __future__ import annotations

import re
import urllib.request
from typing import Any, Final

import pytest
import yaml

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("interop"), pytest.mark.timeout(300)]

PROGRAM: Final = "kube-state-metrics"
SERVICE: Final = """
apiVersion: plimsoll.dev/v1alpha1
kind: LLMService
metadata: {name: seen, namespace: ml}
spec:
  model: {uri: hf://meta-llama/Llama-3.1-8B-Instruct}
  scaling: {minReplicas: 1, maxReplicas: 2}
"""
SAMPLE: Final = re.compile(r"^(kube_llmservice_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL: Final = re.compile(r'(\w+)="([^"]*)"')

Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture(scope="module")
def metrics(cluster: Sandbox, neighbours: Any, guide: Any) -> str:
    """kube-state-metrics that may do what the page's ClusterRole says and nothing else; its URL."""
    role = guide("ClusterRole")
    subject = {"kind": "ServiceAccount", "name": PROGRAM, "namespace": "kube-system"}
    binding = {
        "apiVersion": role["apiVersion"],
        "kind": "ClusterRoleBinding",
        "metadata": role["metadata"],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"]},
        "subjects": [subject],
    }
    cluster.kubectl.apply(yaml.safe_dump_all([role, binding]))
    kubeconfig = cluster.plane.kubeconfig_for("kube-system", PROGRAM)
    config = neighbours.file("state.yaml", yaml.safe_dump(guide("CustomResourceStateMetrics")))
    port, telemetry = neighbours.port(8180), neighbours.port(8181)
    neighbours.launch(
        PROGRAM,
        f"--kubeconfig={kubeconfig}",
        "--custom-resource-state-only",
        f"--custom-resource-state-config-file={config}",
        f"--host={neighbours.address}",
        f"--port={port}",
        f"--telemetry-host={neighbours.address}",
        f"--telemetry-port={telemetry}",
        ready=f"http://{neighbours.address}:{port}/healthz",
    )
    neighbours.fleet.await_ready([PROGRAM])
    return f"http://{neighbours.address}:{port}/metrics"


def samples(url: str) -> Samples:
    """What it exposes, by metric."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    found: Samples = {}
    for name, labels, value in SAMPLE.findall(text):
        found.setdefault(name.removeprefix("kube_llmservice_"), []).append((dict(LABEL.findall(labels)), float(value)))
    return found


def test_all_five_metrics_of_a_service_that_serves(cluster: Sandbox, metrics: str, eventually: Any) -> None:
    """Values and labels are those of the object."""
    cluster.kubectl("apply", "-f", "-", stdin=SERVICE)
    cluster.kubectl("wait", "-n", "ml", "llm/seen", "--for=condition=Available", "--timeout=90s", timeout=120)
    cluster.kubectl(
        "wait", "-n", "ml", "llm/seen", "--for=jsonpath={.status.diagnosis.kind}", "--timeout=90s", timeout=120
    )

    def agree() -> bool:
        """One look at each; the object may change between the two, so the caller looks again."""
        return expected(cluster.kubectl.json("get", "llm", "seen", "-n", "ml")) == of(samples(metrics), "seen")

    eventually(agree, "kube-state-metrics shows the object as it is")


def expected(service: dict[str, Any]) -> Samples:
    """What the page promises of an object."""
    status = service["status"]
    return {
        "spec_replicas": [({}, float(service["spec"]["replicas"]))],
        "status_ready_replicas": [({}, float(status["readyReplicas"]))],
        "status_cost_per_hour": [({}, float(status["cost"]["perHour"]))],
        "status_condition": in_order(
            ({"type": c["type"], "reason": c["reason"]}, float(c["status"] == "True")) for c in status["conditions"]
        ),
        "status_diagnosis": in_order(
            ({"kind": kind.value}, float(kind.value == status["diagnosis"]["kind"])) for kind in DiagnosisKind
        ),
    }


def of(found: Samples, name: str) -> Samples:
    """The samples of one service, without the labels that all of them have."""
    common = {
        "llmservice": name,
        "exported_namespace": "ml",
        "customresource_group": "plimsoll.dev",
        "customresource_version": "v1alpha1",
        "customresource_kind": "LLMService",
    }
    mine: Samples = {}
    for metric, values in found.items():
        kept = [(labels, value) for labels, value in values if common.items() <= labels.items()]
        mine[metric] = in_order(({k: v for k, v in labels.items() if k not in common}, value) for labels, value in kept)
    return mine


def in_order(values: Any) -> list[tuple[dict[str, str], float]]:
    """Sorted by labels."""
    return sorted(values, key=lambda one: sorted(one[0].items()))
