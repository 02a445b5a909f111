"""Which GPU of a node belongs to which container: static and exclusive, as the device plugin has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plimsoll_api.names import GPU_RESOURCE

Assignment = Mapping[str, tuple[int, ...]]
"""Container name to GPU indices of its node."""


class NotEnoughGpusError(Exception):
    """The node has fewer free GPUs than the pod wants: the kubelet fails such a pod at admission."""


def wanted(container: Mapping[str, Any]) -> int:
    """GPUs that a container asks for; the API server makes request and limit of an extended resource equal."""
    return int((container.get("resources") or {}).get("limits", {}).get(GPU_RESOURCE, "0"))


def assign(pod: Mapping[str, Any], total: int, taken: Iterable[int]) -> dict[str, tuple[int, ...]]:
    """GPU indices for every container of a pod that wants some, lowest free ones first.

    Init containers end before the others begin, so they take theirs from the same set.

    Args:
        pod: the pod's manifest.
        total: GPUs of the node, indexed from 0.
        taken: indices that other pods hold.

    Raises:
        NotEnoughGpusError: fewer are free than the pod wants.
    """
    held = set(taken)
    free = [index for index in range(total) if index not in held]
    assigned: dict[str, tuple[int, ...]] = {}
    offset = 0
    for container in pod["spec"]["containers"]:
        count = wanted(container)
        assigned[container["name"]] = tuple(free[offset : offset + count])
        offset += count
    for container in pod["spec"].get("initContainers") or ():
        assigned[container["name"]] = tuple(free[: wanted(container)])
        offset = max(offset, wanted(container))
    if offset > len(free):
        raise NotEnoughGpusError(f"the pod wants {offset} GPUs; {len(free)} of the node's {total} are free")
    return {name: indices for name, indices in assigned.items() if indices}
