"""What the node agent reads from and writes to the API server, beside pods' status."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from plimsoll_cli.sandbox.node.environment import MissingReferenceError
from plimsoll_cli.sandbox.node.status import timestamp
from plimsoll_kube.errors import ApiError
from plimsoll_kube.kubelet_client import PERSISTENT_VOLUME, KubeletClient
from plimsoll_kube.resources import CONFIG_MAP, EVENT, PERSISTENT_VOLUME_CLAIM, SECRET

Manifest = Mapping[str, Any]
_TOKEN_SECONDS: Final = 3607
"""Lifetime that the ServiceAccount admission plugin asks for."""
_EVENT_KEYS_KEPT: Final = 2000
"""Events remembered for counting repeats; older ones are written anew."""


class Cluster:
    """The API server as the node agent sees it."""

    def __init__(self, client: KubeletClient) -> None:
        self.client = client
        self._events: dict[tuple[str, str, str], tuple[str, int]] = {}

    async def config_map(self, namespace: str, name: str) -> Manifest | None:
        """A ConfigMap; None when it does not exist."""
        return await self.client.get(CONFIG_MAP, namespace, name)

    async def secret(self, namespace: str, name: str) -> Manifest | None:
        """A Secret; None when it does not exist."""
        return await self.client.get(SECRET, namespace, name)

    async def token(self, pod: Manifest, projection: Manifest) -> str:
        """A service-account token bound to a pod.

        Raises:
            MissingReferenceError: the API server refused.
        """
        namespace, account = pod["metadata"]["namespace"], pod["spec"].get("serviceAccountName") or "default"
        seconds = int(projection.get("expirationSeconds") or _TOKEN_SECONDS)
        try:
            return await self.client.service_account_token(
                namespace, account, dict(pod), projection.get("audience") or "", seconds
            )
        except ApiError as error:
            raise MissingReferenceError(f"no token of service account {account}: {error}") from error

    async def claim_path(self, namespace: str, name: str) -> str:
        """Where the volume of a bound claim lies.

        Raises:
            MissingReferenceError: the claim is absent, not bound, or its volume is no folder of this machine.
        """
        claim = await self.client.get(PERSISTENT_VOLUME_CLAIM, namespace, name)
        if claim is None:
            raise MissingReferenceError(f'persistentvolumeclaim "{name}" not found')
        volume_name = claim["spec"].get("volumeName")
        if not volume_name or (claim.get("status") or {}).get("phase") != "Bound":
            raise MissingReferenceError(f'persistentvolumeclaim "{name}" is not bound')
        volume = await self.client.get(PERSISTENT_VOLUME, None, volume_name)
        path = ((volume or {}).get("spec") or {}).get("hostPath", {}).get("path")
        if not path:
            raise MissingReferenceError(f'persistentvolume "{volume_name}" is not a hostPath: the sandbox has no other')
        os.makedirs(path, exist_ok=True)
        return str(path)

    async def event(self, about: Manifest, node: str, kind: str, reason: str, message: str) -> None:
        """Write an event, or count a repeat; an event that cannot be written is dropped.

        Args:
            about: the object it is about.
            node: name of the node that reports it.
            kind: `Normal` or `Warning`.
            reason: CamelCase word.
            message: one line.
        """
        metadata, now = about["metadata"], timestamp(time.time())
        namespace = metadata.get("namespace", "default")
        key = (metadata.get("uid", metadata["name"]), reason, message)
        name, count = self._events.get(key, ("", 0))
        try:
            if name:
                await self.client.patch(EVENT, namespace, name, {"count": count + 1, "lastTimestamp": now})
            else:
                name = f"{metadata['name']}.{time.time_ns():x}"
                await self.client.create(
                    EVENT.manifest(
                        namespace,
                        name,
                        involvedObject={
                            "apiVersion": about.get("apiVersion", "v1"),
                            "kind": about.get("kind", "Pod"),
                            "namespace": metadata.get("namespace", ""),
                            "name": metadata["name"],
                            "uid": metadata.get("uid", ""),
                        },
                        type=kind,
                        reason=reason,
                        message=message[:1024],
                        source={"component": "kubelet", "host": node},
                        reportingComponent="kubelet",
                        reportingInstance=node,
                        firstTimestamp=now,
                        lastTimestamp=now,
                        count=1,
                    )
                )
        except ApiError:
            self._events.pop(key, None)
            return
        self._events[key] = (name, count + 1)
        while len(self._events) > _EVENT_KEYS_KEPT:
            self._events.pop(next(iter(self._events)))
