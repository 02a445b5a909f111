"""The Deployment that runs the engine's pods."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Final

from plimsoll_api import names
from plimsoll_api.v1alpha1 import RolloutStrategy, parse_duration
from plimsoll_kube.resources import DEPLOYMENT, Manifest
from plimsoll_operator.manifests.inputs import ServiceInputs
from plimsoll_operator.manifests.pod import pod_template
from plimsoll_operator.manifests.strategic_merge import merge_pod_template

PROGRESS_MARGIN_S: Final = 600
"""On top of the start's own budget, for scheduling and pulling an image of 10 GB and more."""

REVISIONS_KEPT: Final = 3
"""Old ReplicaSets kept for `kubectl rollout undo`."""


def deployment(inputs: ServiceInputs) -> Manifest:
    """The Deployment, without `spec.replicas`, which has an owner of its own."""
    startup = math.ceil(parse_duration(inputs.spec.rollout.startup_timeout))
    template = merge_pod_template(pod_template(inputs), inputs.spec.pod_template)
    # What the selector and the scrape rely on is not for a template to change.
    template["metadata"]["labels"] = {**template["metadata"]["labels"], **inputs.labels}
    template["metadata"]["annotations"] = _with_revision(template)
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": inputs.metadata(inputs.engine_name),
        "spec": {
            "selector": {"matchLabels": inputs.selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(inputs.spec.rollout.strategy)},
            "progressDeadlineSeconds": startup + PROGRESS_MARGIN_S,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "template": template,
        },
    }


def _with_revision(template: dict[str, Any]) -> dict[str, str]:
    """A template's annotations with the hash of all else, so that a pod tells what it was made from."""
    annotations = dict(template["metadata"].get("annotations") or {})
    annotations.pop(names.REVISION_ANNOTATION, None)
    whole = {**template, "metadata": {**template["metadata"], "annotations": annotations}}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
    return {**annotations, names.REVISION_ANNOTATION: digest}


def _rolling(strategy: RolloutStrategy) -> dict[str, Any]:
    """One pod at a time: a second replacement in flight would need GPUs, or take capacity, that nobody granted."""
    if strategy is RolloutStrategy.SURGE_THEN_DRAIN:
        return {"maxSurge": 1, "maxUnavailable": 0}
    return {"maxSurge": 0, "maxUnavailable": 1}
