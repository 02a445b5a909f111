"""The PersistentVolumeClaim that keeps downloaded weights between pods."""

from __future__ import annotations

from typing import Any

from plimsoll_api.v1alpha1 import ModelCache
from plimsoll_kube.resources import PERSISTENT_VOLUME_CLAIM, Manifest
from plimsoll_operator.manifests.inputs import ServiceInputs


def volume_claim(inputs: ServiceInputs, cache: ModelCache) -> Manifest:
    """A claim that all replicas mount, on whatever nodes they are."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name:
        spec["storageClassName"] = cache.storage_class_name
    return {
        "apiVersion": PERSISTENT_VOLUME_CLAIM.api_version,
        "kind": PERSISTENT_VOLUME_CLAIM.kind,
        "metadata": inputs.metadata(inputs.claim_name),
        "spec": spec,
    }
