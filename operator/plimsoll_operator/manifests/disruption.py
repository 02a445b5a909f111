"""The PodDisruptionBudget that makes node drains take one replica at a time."""

from __future__ import annotations

from plimsoll_kube.resources import POD_DISRUPTION_BUDGET, Manifest
from plimsoll_operator.manifests.inputs import ServiceInputs


def disruption_budget(inputs: ServiceInputs) -> Manifest:
    """One pod may be evicted at a time; one that does not serve may always be."""
    return {
        "apiVersion": POD_DISRUPTION_BUDGET.api_version,
        "kind": POD_DISRUPTION_BUDGET.kind,
        "metadata": inputs.metadata(inputs.engine_name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": inputs.selector},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
