"""Every alert is raised in the sandbox's own Prometheus by what it is for, from the rules that the chart installs.

Raised is pending or firing: an alert's `for` is minutes, whose end promtool proves in tests/unit/monitoring.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_api import names, service_series
from plimsoll_api.names import SERIES_NAMESPACE, SERIES_SERVICE
from plimsoll_cli.chart.helm import Helm
from plimsoll_cli.chart.location import NAMESPACE, RELEASE, chart_directory
from plimsoll_cli.load.plan import LoadPlan
from plimsoll_cli.load.run import run_load
from plimsoll_cli.monitoring import rules
from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_simulator.traffic import Request

pytestmark = [pytest.mark.xdist_group("sandbox"), pytest.mark.slow, pytest.mark.timeout(480)]

DEADLINE_SECONDS = 150.0
"""A stalled replica is told after a window and half a minute, a deaf one after two windows, an HPA's first look comes
after 15 s: a minute on an idle machine."""
SLOWDOWN = 40
"""Makes a token of some 10 ms take longer than the 100 ms that a service promises."""
DEAF = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.ThreadingHTTPServer((os.environ["PLIMSOLL_BIND_ADDRESS"], 8000), Handler).serve_forever()
"""
"""A replica that is well by its probes and shows no metrics."""

SPECS: dict[str, dict[str, Any]] = {
    "healthy": {},
    "rejected": {"engine": {"tensorParallelSize": 7}},
    "unplaced": {"accelerators": [{"product": "NVIDIA-L40S"}]},
    "contended": {},
    "deaf": {
        "engine": {"image": "localhost/deaf:1"},
        "podTemplate": {
            "spec": {"containers": [{"name": names.ENGINE_CONTAINER, "command": [sys.executable, "-c", DEAF]}]}
        },
    },
    "stalled": {"engine": {"extraArgs": ["--stall"]}},
    "slow": {"engine": {"extraArgs": [f"--slowdown={SLOWDOWN}"]}},
}
HPA = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "contended"},
    "spec": {
        "scaleTargetRef": {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "contended"},
        # Fewer replicas than its minimum are raised without a metric.
        "minReplicas": 2,
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
            }
        ],
    },
}
OF_SERVICES = {
    ("ConfigRejected", "rejected"),
    ("NoAccelerators", "unplaced"),
    ("ScaleContended", "contended"),
    ("Blind", "deaf"),
    ("Stalled", "stalled"),
    ("ObjectiveBurnFast", "slow"),
    ("ObjectiveBurnSlow", "slow"),
}
OF_PROCESSES = {"OperatorNotLeading", "DetectorNotLeading", "DetectorLate"}


def asked(sandbox: Sandbox, path: str) -> Any:
    """What Prometheus answers."""
    with urllib.request.urlopen(f"{sandbox.prometheus_url}/api/v1/{path}", timeout=30) as response:
        return json.load(response)["data"]


def value(sandbox: Sandbox, promql: str) -> float:
    """The only sample of an answer; 0 when there is none."""
    answer = asked(sandbox, f"query?{urllib.parse.urlencode({'query': promql})}")["result"]
    return float(answer[0]["value"][1]) if answer else 0.0


def raised(sandbox: Sandbox) -> list[tuple[str, dict[str, str]]]:
    """(name without its prefix, labels) of every alert that is pending or firing."""
    labels = [alert["labels"] for alert in asked(sandbox, "alerts")["alerts"]]
    return [(one["alertname"].removeprefix("Plimsoll"), one) for one in labels]


def until(happened: Callable[[], bool], tell: Callable[[], object]) -> None:
    """Wait for what the sandbox comes to by itself."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.25)


def test_there_is_a_cause_for_every_alert() -> None:
    """A new alert without one is not finished."""
    assert {name for name, _ in OF_SERVICES} | OF_PROCESSES == {alert.name for alert in rules.alerts()}


def test_prometheus_has_the_rules_of_the_chart(sandbox: Sandbox, tmp_path: Path) -> None:
    """As helm renders them: the object in the cluster is that of the chart, and every rule of it is evaluated."""
    helm = Helm(binaries.resolve("helm"), tmp_path)
    made = helm(
        "template", RELEASE, str(chart_directory()), f"--namespace={NAMESPACE}", "--kube-version=1.36.0",
        "--show-only=templates/monitoring.yaml", "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
    )  # fmt: skip
    [rule] = [one for one in yaml.safe_load_all(made) if one and one["kind"] == "PrometheusRule"]
    live = sandbox.kubectl.json("get", "prometheusrule", rule["metadata"]["name"], "-n", NAMESPACE)
    assert live["spec"] == rule["spec"]

    def evaluated() -> dict[str, str]:
        groups = asked(sandbox, "rules")["groups"]
        return {one["name"]: one["health"] for group in groups for one in group["rules"]}

    wanted = {one.get("record") or one["alert"] for group in rule["spec"]["groups"] for one in group["rules"]}
    until(lambda: evaluated() == dict.fromkeys(wanted, "ok"), evaluated)


async def test_every_alert_of_a_service_is_raised(
    sandbox: Sandbox, sandbox_namespace: str, apply_service: Callable[..., str], declare_service: Callable[..., None]
) -> None:
    """Each by the service whose trouble it is for, and by no other: not one by a service that is well."""

    def found() -> set[tuple[str, str]]:
        return {
            (name, labels[SERIES_SERVICE])
            for name, labels in raised(sandbox)
            if labels.get(SERIES_NAMESPACE) == sandbox_namespace
        }

    small = {"scaling": {"minReplicas": 1, "maxReplicas": 1}, "rollout": {"drainTimeout": "1s"}}
    for name, spec in SPECS.items():
        declare_service(name, **small, **spec)
    sandbox.kubectl("apply", "-n", sandbox_namespace, "-f", "-", stdin=yaml.safe_dump(HPA))
    with held_request(sandbox, sandbox_namespace, "stalled"):
        url = apply_service("slow", **small, **SPECS["slow"])
        requests = tuple(Request(float(second), 100, 8) for second in range(10))
        await run_load(LoadPlan(url=url, model="slow", requests=requests, duration=10.0))
        await asyncio.to_thread(until, lambda: found() == OF_SERVICES, found)


@contextmanager
def held_request(sandbox: Sandbox, namespace: str, name: str) -> Iterator[None]:
    """Send a request to a service's pod as soon as it listens, and leave it unanswered."""
    selected = (f"--selector={names.SERVICE_LABEL}={name}", "-n", namespace)

    def address() -> str:
        [pod] = sandbox.kubectl.json("get", "pods", *selected)["items"] or [{}]
        return str(pod.get("status", {}).get("podIP", ""))

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((there, names.ENGINE_PORT)) == 0

    def send() -> int:
        body = json.dumps({"model": name, "prompt": [7, 8, 9], "max_tokens": 5}).encode()
        url = f"http://{there}:{names.ENGINE_PORT}/v1/completions"
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=2 * DEADLINE_SECONDS) as answer:
                return int(answer.status)
        except (urllib.error.URLError, OSError):
            return 0

    until(lambda: address() != "", lambda: f"{name} has no pod")
    there = address()
    until(listens, lambda: f"{name} does not listen")
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(send)
        yield
        assert not request.done()
        sandbox.kubectl("delete", "llm", name, "-n", namespace)
        sandbox.kubectl("delete", "deployment,pods", *selected, "--grace-period=0", "--force")
        assert request.result() == 0


@contextmanager
def without_rights(sandbox: Sandbox, binding: str) -> Iterator[None]:
    """Take a role from whom it is bound to."""
    bound = sandbox.kubectl.json("get", "clusterrolebinding", binding)
    bound["metadata"] = {"name": binding, "labels": bound["metadata"]["labels"]}
    sandbox.kubectl("delete", "clusterrolebinding", binding)
    try:
        yield
    finally:
        sandbox.kubectl.apply(json.dumps(bound))


@contextmanager
def without_components(sandbox: Sandbox, *components: str) -> Iterator[None]:
    """Stop processes of the sandbox for a while."""
    for component in components:
        sandbox.stop(component)
    try:
        yield
    finally:
        for component in components:
            sandbox.start_component(component)


def test_every_alert_of_a_process_is_raised(sandbox: Sandbox) -> None:
    """By a detector whose ticks fail, and by an operator and a detector that are gone; not while they lead."""

    def found() -> set[str]:
        return {name for name, _ in raised(sandbox)} & OF_PROCESSES

    def leading() -> bool:
        leaders = (service_series.OPERATOR_LEADER, service_series.DETECTOR_LEADER)
        return all(value(sandbox, f"max({leader})") == 1.0 for leader in leaders)

    def failing() -> bool:
        # On a busy machine ticks may be late, and the alert raised, before any fails.
        return value(sandbox, f"sum(increase({service_series.DETECTOR_FAILED_TICKS}[1m]))") > 2.0

    until(leading, found)
    until(lambda: not found() & {"OperatorNotLeading", "DetectorNotLeading"}, found)
    with without_rights(sandbox, "plimsoll-detector"):
        until(lambda: failing() and "DetectorLate" in found(), found)
    with without_components(sandbox, "detector", "operator"):
        until(lambda: {"OperatorNotLeading", "DetectorNotLeading"} <= found(), found)
    until(leading, found)
    until(lambda: not found() & {"OperatorNotLeading", "DetectorNotLeading"}, found)
