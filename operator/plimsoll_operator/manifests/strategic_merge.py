"""Strategic merge of a partial pod template, with the merge keys of the Kubernetes API for pods.

Lists whose items have an identity are merged item by item; other lists are replaced; null removes a field, and
`$patch: delete` removes an item, as `kubectl patch --type=strategic` does.
"""

from __future__ import annotations

import copy
from typing import Any, Final

MERGE_KEYS: Final[dict[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}
"""List field of a pod -> the field that identifies its items (`patchMergeKey` of k8s.io/api/core/v1)."""

APPENDED: Final = frozenset({"tolerations"})
"""Lists of which a person means to add items. The API replaces tolerations; then every template that adds one would
have to repeat the GPU's."""

_PATCH: Final = "$patch"


def merge_pod_template(base: dict[str, Any], partial: dict[str, Any]) -> dict[str, Any]:
    """A pod template with a partial one merged over it; neither argument is changed."""
    return _merge_map(base, partial)


def _merge_map(base: dict[str, Any], partial: dict[str, Any]) -> dict[str, Any]:
    if partial.get(_PATCH) == "replace":
        return {name: copy.deepcopy(value) for name, value in partial.items() if name != _PATCH}
    merged = copy.deepcopy(base)
    for name, value in partial.items():
        if name == _PATCH:
            continue
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            before = merged.get(name)
            merged[name] = _merge_map(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, list):
            merged[name] = _merge_list(name, merged.get(name), value)
        else:
            merged[name] = value
    return merged


def _merge_list(name: str, base: Any, partial: list[Any]) -> list[Any]:
    before = base if isinstance(base, list) else []
    if name in APPENDED:
        return [*copy.deepcopy(before), *(copy.deepcopy(item) for item in partial if item not in before)]
    key = MERGE_KEYS.get(name)
    if key is None or not all(isinstance(item, dict) for item in [*before, *partial]):
        return copy.deepcopy(partial)
    if any(item.get(_PATCH) == "replace" for item in partial):
        before = []
    merged = {item.get(key): item for item in before}
    for item in partial:
        identity = item.get(key)
        if item.get(_PATCH) == "delete":
            merged.pop(identity, None)
        elif item.keys() != {_PATCH}:
            merged[identity] = _merge_map(merged.get(identity, {}), item)
    return list(merged.values())
