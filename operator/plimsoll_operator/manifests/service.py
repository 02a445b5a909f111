"""The Service that clients inside the cluster talk to."""

from __future__ import annotations

from plimsoll_api import names
from plimsoll_kube.resources import SERVICE, Manifest
from plimsoll_operator.manifests.inputs import ServiceInputs


def service(inputs: ServiceInputs) -> Manifest:
    """A Service with the LLMService's own name."""
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": inputs.metadata(inputs.name),
        "spec": {
            "type": "ClusterIP",
            "selector": inputs.selector,
            "ports": [
                {
                    "name": names.ENGINE_PORT_NAME,
                    "port": names.ENGINE_PORT,
                    "protocol": "TCP",
                    "targetPort": names.ENGINE_PORT_NAME,
                }
            ],
        },
    }


def url_of(namespace: str, name: str) -> str:
    """Where clients inside the cluster reach a service."""
    return f"http://{name}.{namespace}.svc:{names.ENGINE_PORT}"
