"""Which GPUs the cluster's nodes have, by the labels of GPU feature discovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from plimsoll_api import names
from plimsoll_kube.client import KubeApi
from plimsoll_kube.resources import NODE, Manifest

FRESH_S: Final = 10.0
"""A list of nodes is used this long, so that a burst of services costs one list."""


@dataclass(frozen=True)
class Fleet:
    """GPUs of a cluster.

    Attributes:
        per_node: GPU product -> GPUs of its largest node.
        total: GPU product -> GPUs of all nodes.
    """

    per_node: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)

    @property
    def products(self) -> tuple[str, ...]:
        """Products in alphabetical order."""
        return tuple(sorted(self.per_node))


def fleet_of(nodes: Iterable[Manifest]) -> Fleet:
    """Read the nodes' labels and capacities; a node without a product label or without GPUs does not count."""
    per_node: dict[str, int] = {}
    total: dict[str, int] = {}
    for node in nodes:
        product = (node["metadata"].get("labels") or {}).get(names.GPU_PRODUCT_LABEL)
        gpus = int((node.get("status") or {}).get("capacity", {}).get(names.GPU_RESOURCE, 0))
        if product and gpus:
            per_node[product] = max(per_node.get(product, 0), gpus)
            total[product] = total.get(product, 0) + gpus
    return Fleet(per_node, total)


class FleetReader:
    """The cluster's GPUs, read at most every `FRESH_S` seconds."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._fleet = Fleet()
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def read(self) -> Fleet:
        """The fleet, at most `FRESH_S` seconds old.

        Raises:
            ApiError: the nodes cannot be listed.
        """
        async with self._lock:
            if self._read_at is None or self._clock() - self._read_at > FRESH_S:
                self._fleet = fleet_of((await self._api.list(NODE, resource_version="0")).items)
                self._read_at = self._clock()
            return self._fleet
