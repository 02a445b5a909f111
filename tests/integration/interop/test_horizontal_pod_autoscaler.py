"""examples/hpa.yaml with the real HPA controller, prometheus-adapter and the queue of a simulated engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import pytest
import yaml

from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.neighbours import PROMETHEUS_ADAPTER
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [
    pytest.mark.api_server,
    pytest.mark.slow,
    pytest.mark.xdist_group("interop"),
    pytest.mark.timeout(300),
]

NAME: Final = "by-hpa"
CLIENTS: Final = 15
"""One is served and fourteen wait, at a target of five per replica: three replicas, also after a look at half of the
crowd has made two of one: eleven over two would be within the HPA's tolerance of a tenth."""
HPA_CONTROLLER: Final = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
ADAPTER: Final = "prometheus-adapter"
MANIFESTS: Final = (
    "service-account.yaml",
    "cluster-role.yaml",
    "cluster-role-binding.yaml",
    "cluster-role-binding-delegator.yaml",
    "role-binding-auth-reader.yaml",
)
"""The adapter's own identity and rights, from its module."""


@pytest.fixture(scope="module")
def adapter(cluster: Sandbox, neighbours: Any, guide: Any) -> None:
    """prometheus-adapter with the page's rules, behind the API server."""
    port, namespace = neighbours.port(6453), "monitoring"
    folder = binaries.module_directory(PROMETHEUS_ADAPTER.path, PROMETHEUS_ADAPTER.version) / "deploy" / "manifests"
    config = guide("ConfigMap", "adapter-config")
    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, config]
    cluster.kubectl.apply("\n---\n".join([yaml.safe_dump_all(objects), *((folder / m).read_text() for m in MANIFESTS)]))
    kubeconfig = cluster.plane.kubeconfig_for(namespace, ADAPTER)
    pair = neighbours.serving_certificate(ADAPTER, namespace)
    neighbours.launch(
        ADAPTER,
        f"--config={neighbours.file('rules.yaml', config['data']['config.yaml'])}",
        f"--prometheus-url={cluster.prometheus_url}",
        "--metrics-relist-interval=2s",
        f"--bind-address={neighbours.address}",
        f"--secure-port={port}",
        f"--tls-cert-file={pair.certificate}",
        f"--tls-private-key-file={pair.key}",
        f"--lister-kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        ready=f"https://{neighbours.address}:{port}/readyz",
    )
    neighbours.fleet.await_ready([ADAPTER])
    neighbours.aggregate("custom.metrics.k8s.io", ADAPTER, namespace, port)


@pytest.mark.usefixtures("adapter")
def test_replicas_follow_the_queue_out_and_in(
    cluster: Sandbox, guide: Any, eventually: Any, requests: Any, crowd: Callable[..., AbstractContextManager[None]]
) -> None:
    """The file as it is, but for a batch of one request, which makes a queue of what two cores can send."""
    service = guide("LLMService", NAME)
    service["spec"]["engine"] = {"maxNumSeqs": 1}
    cluster.kubectl(
        "apply", "-n", "ml", "-f", "-", stdin=yaml.safe_dump_all([service, guide("HorizontalPodAutoscaler")])
    )
    cluster.kubectl("wait", "-n", "ml", f"llm/{NAME}", "--for=condition=Available", "--timeout=60s", timeout=90)

    def active() -> bool:
        conditions = cluster.kubectl.json("get", "hpa", NAME, "-n", "ml").get("status", {}).get("conditions", [])
        return ("ScalingActive", "True") in {(one["type"], one["status"]) for one in conditions}

    def settled(replicas: int) -> bool:
        """So many are wanted, exist and serve. A service begins with more, of which the first to serve is one too."""
        found = cluster.kubectl.json("get", "llm", NAME, "-n", "ml")
        status = found.get("status", {})
        return found["spec"].get("replicas") == status.get("replicas") == status.get("readyReplicas") == replicas

    eventually(active, "the HPA reads its metric")
    eventually(lambda: settled(1), "one replica is enough without a queue")
    with crowd(NAME, CLIENTS):
        eventually(lambda: settled(3), "three replicas serve")
        metric = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/ml/pods/*/vllm:num_requests_waiting"
        values = [item["value"] for item in json.loads(cluster.kubectl("get", "--raw", metric))["items"]]
        assert str(CLIENTS - 1) in values
    eventually(lambda: settled(1), "one replica is left")
    wrote = [one for one in requests(f"/llmservices/{NAME}/scale") if one["verb"] in ("update", "patch")]
    assert {one["user"]["username"] for one in wrote} == {HPA_CONTROLLER}
    conditions = cluster.kubectl.json("get", "llm", NAME, "-n", "ml")["status"]["conditions"]
    assert [c["reason"] for c in conditions if c["type"] == "ScalingActive"] == ["ManualMode"]
    cluster.kubectl("delete", "hpa,llm", NAME, "-n", "ml", "--wait=false")
