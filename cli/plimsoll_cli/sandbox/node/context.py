"""What every part of the node agent shares, and what one pod's containers share."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from plimsoll_cli.sandbox.node.backoff import BackoffPolicy
from plimsoll_cli.sandbox.node.cluster import Cluster
from plimsoll_cli.sandbox.node.config import AgentConfig, NodeConfig
from plimsoll_cli.sandbox.node.environment import PodFacts

Manifest = Mapping[str, Any]
EventWriter = Callable[[str, str, str], None]
"""Called with `Normal` or `Warning`, reason, message; never waits for the API server."""

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")
"""Variables of this machine that containers see: what an image would bring."""


@dataclass
class AgentContext:
    """Shared by all pods.

    Args:
        config: the configuration file.
        cluster: the API server.
        session: for HTTP probes and hooks.
        api_url: the API server's address, for KUBERNETES_SERVICE_HOST and _PORT.
        addresses_taken: pod addresses in use.
        gpus_taken: node to pod uid to the GPU indices it holds.
        ending: uids of pods whose objects are gone, or not seen yet, and whose processes still end.
    """

    config: AgentConfig
    cluster: Cluster
    session: aiohttp.ClientSession
    api_url: str
    addresses_taken: set[str] = field(default_factory=set)
    gpus_taken: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)
    _next_address: int = 256

    @property
    def backoff(self) -> BackoffPolicy:
        """Restart delays."""
        c = self.config
        return BackoffPolicy(
            c.restart_backoff_seconds, c.restart_backoff_limit_seconds, c.restart_backoff_reset_seconds
        )

    def base_environment(self) -> dict[str, str]:
        """What every container sees before its image and its manifest add to it."""
        server = urlsplit(self.api_url)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        api = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port or 443)}
        return inherited | api | self.config.environment

    def take_address(self) -> str:
        """The next pod address that is free; one that was given back is not used again soon.

        Raises:
            RuntimeError: the block is used up.
        """
        network = ipaddress.ip_network(self.config.pod_cidr)
        span = network.num_addresses
        for _ in range(span):
            offset, self._next_address = self._next_address, self._next_address + 1
            if self._next_address >= span - 1:
                self._next_address = 256  # the first /24 is the nodes'
            address = str(network.network_address + offset)
            if offset % 256 not in (0, 255) and address not in self.addresses_taken:
                self.addresses_taken.add(address)
                return address
        raise RuntimeError(f"every address of {self.config.pod_cidr} is taken")


@dataclass
class PodContext:
    """Shared by the containers of one pod.

    Args:
        agent: what all pods share.
        node: the pod's node.
        pod: the newest manifest.
        folder: where everything of the pod lies.
        pod_ip: its address.
        gpus: container name to GPU indices.
        changed: called when a container's view changed.
        event: writes an event about the pod.
        places: volume name to path, once they are laid out.
    """

    agent: AgentContext
    node: NodeConfig
    pod: Manifest
    folder: Path
    pod_ip: str
    gpus: Mapping[str, tuple[int, ...]]
    changed: Callable[[], None]
    event: EventWriter
    places: dict[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> PodFacts:
        """For the downward API."""
        return PodFacts(self.pod_ip, self.agent.config.node_address(self.node.name), self.node.capacity)

    @property
    def grace_seconds(self) -> float:
        """terminationGracePeriodSeconds, 30 when absent."""
        value = self.pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if value is None else float(value)
