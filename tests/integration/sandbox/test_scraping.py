"""Prometheus scrapes what a PodMonitor selects, by pod address, with the labels that alerts and queries rely on."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

import pytest

from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [
    pytest.mark.api_server,
    pytest.mark.slow,
    pytest.mark.xdist_group("sandbox-life"),
    pytest.mark.timeout(300),  # it brings a whole sandbox up, on two cores beside other tests
]

DEADLINE_SECONDS = 60.0
# The node is there because pods of one that is not are removed after 40 s.
OBJECTS = """
apiVersion: v1
kind: Node
metadata: {name: elsewhere}
---
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, namespace: ml, labels: {plimsoll.dev/service: %(service)s}}
spec:
  nodeName: elsewhere
  containers: [{name: engine, image: x, ports: [{name: http, containerPort: %(port)d}]}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: chat-engine, namespace: ml}
spec:
  selector: {matchLabels: {plimsoll.dev/service: chat}}
  podMetricsEndpoints:
    - port: http
      path: /metrics
      interval: 1s
      relabelings:
        - {sourceLabels: [__meta_kubernetes_pod_label_plimsoll_dev_service], targetLabel: llmservice, action: replace}
"""


class Metrics(http.server.BaseHTTPRequestHandler):
    """One gauge."""

    def do_GET(self) -> None:
        """Answer a scrape."""
        body = b"# TYPE waiting gauge\nwaiting 3\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def query(bare: Sandbox, promql: str) -> list[dict[str, Any]]:
    """An instant query."""
    url = f"{bare.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


def dropped(bare: Sandbox) -> set[str]:
    """Names of the pods that Prometheus has discovered and does not scrape."""
    url = f"{bare.prometheus_url}/api/v1/targets?state=dropped"
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
        targets = json.load(answer)["data"]["droppedTargets"]
    return {target["discoveredLabels"].get("__meta_kubernetes_pod_name", "") for target in targets}


def test_a_selected_pod_is_scraped_and_another_is_not(bare: Sandbox) -> None:
    """The series of the selected pod carries namespace, pod, llmservice; the other pod has none."""
    address = bare.plane.layout.block.pod_cidr.replace("0.0/16", "9.9")
    with http.server.ThreadingHTTPServer((address, 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            bare.kubectl("create", "namespace", "ml")
            bare.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "ml", "--timeout=30s")
            for name, service in (("chat-0", "chat"), ("other-0", "other")):
                values = {"name": name, "service": service, "port": server.server_port}
                bare.kubectl.apply(OBJECTS % values)
                status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
                bare.kubectl(
                    "patch", "pod", name, "-n", "ml", "--subresource=status", "--type=merge", "-p", json.dumps(status)
                )
            deadline = time.monotonic() + DEADLINE_SECONDS
            # That the other has no series says something only once Prometheus knows of it.
            while not (found := query(bare, "waiting")) or "other-0" not in dropped(bare):
                assert time.monotonic() < deadline, bare.log("prometheus").read_text()
                time.sleep(0.1)
        finally:
            server.shutdown()
            thread.join()
    (series,) = found
    assert series["value"][1] == "3"
    assert series["metric"] == {
        "__name__": "waiting",
        "namespace": "ml",
        "pod": "chat-0",
        "container": "engine",
        "llmservice": "chat",
        "job": "ml/chat-engine",
        "endpoint": "http",
        "instance": f"{address}:{server.server_port}",
    }
