"""All children of a service, each with the hash of what it should be."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from plimsoll_api import names
from plimsoll_kube.resources import (
    DEPLOYMENT,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    SERVICE,
    Manifest,
    Resource,
)
from plimsoll_operator.manifests.deployment import deployment
from plimsoll_operator.manifests.disruption import disruption_budget
from plimsoll_operator.manifests.inputs import ServiceInputs
from plimsoll_operator.manifests.network_policy import network_policy
from plimsoll_operator.manifests.pod_monitor import pod_monitor
from plimsoll_operator.manifests.service import service
from plimsoll_operator.manifests.volume_claim import volume_claim

CHILD_RESOURCES: Final[tuple[Resource, ...]] = (
    DEPLOYMENT,
    SERVICE,
    POD_DISRUPTION_BUDGET,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD_MONITOR,
)
"""Kinds that a service may have children of: what is listed when children are observed, and pruned."""


def children_of(inputs: ServiceInputs) -> list[Manifest]:
    """The children a service should have.

    The Deployment comes first: a pod template that the API server refuses then leaves nothing behind.
    """
    children = [deployment(inputs), service(inputs), disruption_budget(inputs), network_policy(inputs)]
    if inputs.spec.model.cache:
        children.append(volume_claim(inputs, inputs.spec.model.cache))
    if inputs.monitors:
        children.append(pod_monitor(inputs))
    return [_hashed(child) for child in children]


def revision_of(children: list[Manifest]) -> str:
    """Which template the pods of a service are made from."""
    [template] = [child["spec"]["template"] for child in children if child["kind"] == DEPLOYMENT.kind]
    return str(template["metadata"]["annotations"][names.REVISION_ANNOTATION])


def _hashed(child: Manifest) -> Manifest:
    """A child with the hash of itself, by which a later reconcile sees that nothing was asked anew."""
    digest = hashlib.sha256(json.dumps(child, sort_keys=True).encode()).hexdigest()[:16]
    annotations = {**child["metadata"].get("annotations", {}), names.CONFIG_HASH_ANNOTATION: digest}
    return {**child, "metadata": {**child["metadata"], "annotations": annotations}}
