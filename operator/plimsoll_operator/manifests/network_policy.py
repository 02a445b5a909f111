"""The NetworkPolicy that leaves only the serving port open."""

from __future__ import annotations

from plimsoll_api import names
from plimsoll_kube.resources import NETWORK_POLICY, Manifest
from plimsoll_operator.manifests.inputs import ServiceInputs


def network_policy(inputs: ServiceInputs) -> Manifest:
    """Ingress to the serving port only: PyTorch's rendezvous store listens on all interfaces, unauthenticated."""
    return {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.kind,
        "metadata": inputs.metadata(inputs.engine_name),
        "spec": {
            "podSelector": {"matchLabels": inputs.selector},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": names.ENGINE_PORT, "protocol": "TCP"}]}],
        },
    }
