"""The PodMonitor by which Prometheus finds the engines."""

from __future__ import annotations

import re

from plimsoll_api import names
from plimsoll_kube.resources import POD_MONITOR, Manifest
from plimsoll_operator.manifests.inputs import ServiceInputs


def pod_monitor(inputs: ServiceInputs) -> Manifest:
    """A PodMonitor whose series carry namespace, pod and the service's name."""
    service_label = "__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9_]", "_", names.SERVICE_LABEL)
    sources = {
        names.SERIES_NAMESPACE: "__meta_kubernetes_namespace",
        names.SERIES_POD: "__meta_kubernetes_pod_name",
        names.SERIES_SERVICE: service_label,
    }
    return {
        "apiVersion": POD_MONITOR.api_version,
        "kind": POD_MONITOR.kind,
        "metadata": inputs.metadata(inputs.engine_name),
        "spec": {
            "selector": {"matchLabels": inputs.selector},
            "podMetricsEndpoints": [
                {
                    "port": names.ENGINE_PORT_NAME,
                    "path": "/metrics",
                    "interval": inputs.scrape_interval,
                    "relabelings": [
                        {"action": "replace", "sourceLabels": [source], "targetLabel": target}
                        for target, source in sources.items()
                    ],
                }
            ],
        },
    }
