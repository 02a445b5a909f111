"""What the processes ask of the API server, and the client that asks it.

Objects are plain JSON. Every request has a timeout, and every call a deadline until which it is tried again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from plimsoll_kube.errors import NotFound
from plimsoll_kube.resources import POD, Manifest, Resource, resource_of
from plimsoll_kube.transport import RequestObserver, Transport
from plimsoll_kube.watching import BOOKMARK, WatchEvent, watch_events

PAGE_SIZE: Final = 500
"""Objects per page of a list, as kubectl asks for."""

MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"


@dataclass(frozen=True)
class ObjectList:
    """The objects of a list and the resource version they are of."""

    items: list[Manifest]
    resource_version: str


class KubeApi(Protocol):
    """What the processes need of a Kubernetes API.

    Every method raises an `ApiError` of `plimsoll_kube.errors` when the server refuses or cannot be reached.
    """

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        """One object; None when it does not exist."""
        ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
    ) -> ObjectList:
        """The objects of a namespace, or of the whole cluster.

        Args:
            resource: what to list.
            namespace: None lists the whole cluster.
            label_selector: as kubectl writes it.
            field_selector: as kubectl writes it, such as `spec.nodeName=a`.
            resource_version: "0" allows an answer from the server's cache, which is cheap and may be a little old.
        """
        ...

    async def log(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, limit_bytes: int
    ) -> str:
        """The end of a container's log.

        Args:
            namespace: of the pod.
            pod: its name.
            container: of the pod.
            previous: of the run before the present one.
            tail_lines: how many lines from the end.
            limit_bytes: most bytes of these, the first.
        """
        ...

    async def apply(
        self, manifest: Manifest, *, field_manager: str, force: bool = True, subresource: str = ""
    ) -> Manifest:
        """Server-side apply: the manifest is all that the field manager wants, and what it no longer wants goes."""
        ...

    async def scale(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        replicas: int,
        *,
        field_manager: str,
        resource_version: str | None = None,
    ) -> int:
        """Write `/scale` and return the replicas it now asks for.

        Args:
            resource: what to scale.
            namespace: its namespace.
            name: its name.
            replicas: how many are wanted.
            field_manager: who wants them.
            resource_version: the write happens only while the object is of this version; else `Conflict`.
        """
        ...

    async def create(self, manifest: Manifest, *, field_manager: str = "") -> Manifest:
        """Create an object; `Conflict` when it exists."""
        ...

    async def replace(self, manifest: Manifest, *, field_manager: str = "", subresource: str = "") -> Manifest:
        """PUT an object; `Conflict` when its `metadata.resourceVersion` is not the newest."""
        ...

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Manifest,
        *,
        subresource: str = "",
        field_manager: str = "",
    ) -> Manifest:
        """JSON merge patch of an object or a subresource of it."""
        ...

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> bool:
        """Delete an object; False when it was gone already.

        Args:
            resource: what to delete.
            namespace: its namespace.
            name: its name.
            uid: delete this very object and not a later one of the same name; else `Conflict`.
            grace_period_seconds: 0 removes it at once; None leaves the choice to the object.
        """
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Changes after a resource version, bookmarks among them, until the server ends the stream.

        Args:
            resource: what to watch.
            namespace: None watches the whole cluster.
            label_selector: as kubectl writes it.
            field_selector: as kubectl writes it.
            resource_version: that of a list or of the last event; empty sends every object first.

        Raises:
            Gone: the resource version is too old; list again. `plimsoll_kube.following.follow` does all that.
        """
        ...

    async def served(self, resource: Resource) -> bool:
        """Whether the API server knows this resource (a CRD may be absent)."""
        ...


class KubeClient:
    """A `KubeApi` over HTTP, through the asyncio client of the `kubernetes` package. Use as a context manager."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        user_agent: str = "plimsoll",
        on_request: RequestObserver | None = None,
        timeout: float = 10.0,
        deadline: float = 30.0,
        context: str | None = None,
    ) -> Self:
        """A client for the cluster of a kubeconfig, of `$KUBECONFIG` or of the pod's service account.

        Args:
            kubeconfig: None looks at `$KUBECONFIG`, then at the service account.
            user_agent: who asks, for the API server's audit log.
            on_request: called after every request with verb, HTTP status (0: no answer) and seconds.
            timeout: seconds that one request may take.
            deadline: seconds until a call that is answered with 429, 5xx or nothing is given up.
            context: of the kubeconfig; None is its current one.

        Raises:
            NoClusterError: there is nothing to connect to.
        """
        return cls(
            await Transport.open(
                kubeconfig, user_agent, on_request, timeout=timeout, deadline=deadline, context=context
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        """See `KubeApi.get`."""
        try:
            return await self._json("get", "GET", resource.path(namespace, name))
        except NotFound:
            return None

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
    ) -> ObjectList:
        """See `KubeApi.list`."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version or "",
            limit="" if resource_version == "0" else str(PAGE_SIZE),
        )
        items: list[Manifest] = []
        while True:
            page = await self._json("list", "GET", resource.path(namespace), query)
            items += page.get("items") or []
            metadata = page["metadata"]
            if not metadata.get("continue"):
                break
            query = {**query, "continue": metadata["continue"]}
            query.pop("resourceVersion", None)
        for item in items:  # a list's items do not say what they are
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return ObjectList(items, metadata.get("resourceVersion", ""))

    async def log(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, limit_bytes: int
    ) -> str:
        """See `KubeApi.log`."""
        query = _query(
            container=container,
            previous="true" if previous else "",
            tailLines=str(tail_lines),
            limitBytes=str(limit_bytes),
        )
        path = POD.path(namespace, pod, "log")
        answer = await self._transport.call("get", "GET", path, query, None, "application/json")
        return answer.decode(errors="replace")

    async def apply(
        self, manifest: Manifest, *, field_manager: str, force: bool = True, subresource: str = ""
    ) -> Manifest:
        """See `KubeApi.apply`."""
        metadata = manifest["metadata"]
        path = resource_of(manifest).path(metadata.get("namespace"), metadata["name"], subresource)
        query = _query(fieldManager=field_manager, force="true" if force else "false")
        return await self._json("apply", "PATCH", path, query, manifest, APPLY_PATCH)

    async def scale(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        replicas: int,
        *,
        field_manager: str,
        resource_version: str | None = None,
    ) -> int:
        """See `KubeApi.scale`."""
        patch: Manifest = {"spec": {"replicas": replicas}}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}
        path = resource.path(namespace, name, "scale")
        scale = await self._json("patch", "PATCH", path, _query(fieldManager=field_manager), patch, MERGE_PATCH)
        return int(scale["spec"].get("replicas", 0))

    async def create(self, manifest: Manifest, *, field_manager: str = "") -> Manifest:
        """See `KubeApi.create`."""
        path = resource_of(manifest).path(manifest["metadata"].get("namespace"))
        return await self._json("create", "POST", path, _query(fieldManager=field_manager), manifest)

    async def replace(self, manifest: Manifest, *, field_manager: str = "", subresource: str = "") -> Manifest:
        """See `KubeApi.replace`."""
        metadata = manifest["metadata"]
        path = resource_of(manifest).path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._json("update", "PUT", path, _query(fieldManager=field_manager), manifest)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Manifest,
        *,
        subresource: str = "",
        field_manager: str = "",
    ) -> Manifest:
        """See `KubeApi.patch`."""
        path = resource.path(namespace, name, subresource)
        return await self._json("patch", "PATCH", path, _query(fieldManager=field_manager), patch, MERGE_PATCH)

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> bool:
        """See `KubeApi.delete`."""
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        try:
            await self._json("delete", "DELETE", resource.path(namespace, name), body=options)
        except NotFound:
            return False
        return True

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """See `KubeApi.watch`."""
        query = _query(labelSelector=label_selector, fieldSelector=field_selector, resourceVersion=resource_version)
        async for event in watch_events(self._transport, resource.path(namespace), query):
            if event.type != BOOKMARK:
                event.object.setdefault("apiVersion", resource.api_version)
                event.object.setdefault("kind", resource.kind)
            yield event

    async def served(self, resource: Resource) -> bool:
        """See `KubeApi.served`."""
        try:
            group = await self._json("get", "GET", resource.root)
        except NotFound:
            return False
        return any(known["name"] == resource.plural for known in group.get("resources") or [])

    async def _json(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Manifest:
        """One call, decoded."""
        answer = await self._transport.call(verb, method, path, query or {}, body, content_type)
        decoded = json.loads(answer)
        assert isinstance(decoded, dict)
        return decoded


def _query(**parameters: str) -> dict[str, str]:
    """The parameters that say something."""
    return {name: value for name, value in parameters.items() if value}
