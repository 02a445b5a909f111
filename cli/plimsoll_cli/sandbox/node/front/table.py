"""Which pods stand behind which Service address, kept up to date change by change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from plimsoll_cli.sandbox.node.front.balance import Backend

Manifest = Mapping[str, Any]
Address = tuple[str, int]
"""Cluster IP and port."""
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Route:
    """What answers on one address.

    Args:
        service: `namespace/name`, for messages.
        backends: the Ready pods, ordered by pod uid.
    """

    service: str
    backends: tuple[Backend, ...]


def takes_requests(pod: Manifest) -> bool:
    """Whether a pod is in the rotation: Ready, addressed, and not being deleted."""
    status = pod.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    return ready and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]


def selects(service: Manifest, pod: Manifest) -> bool:
    """Whether a Service's selector matches a pod of its namespace."""
    selector, labels = service["spec"].get("selector") or {}, pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def is_served(service: Manifest) -> bool:
    """Whether the front answers for a Service: it has a cluster IP and a selector."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("clusterIP", "None") not in ("", "None")


def target_port(pod: Manifest, service_port: Manifest) -> int | None:
    """Number of the pod's port that a Service port leads to; None when the pod has none of that name."""
    wanted = service_port.get("targetPort") or service_port["port"]
    if isinstance(wanted, int):
        return wanted
    if wanted.isdigit():
        return int(wanted)
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == wanted:
                return int(port["containerPort"])
    return None


def routes_of(service: Manifest, pods: Iterable[Manifest]) -> dict[Address, Route]:
    """The routes of one Service.

    Args:
        service: the Service.
        pods: the pods of its namespace.
    """
    if not is_served(service):
        return {}
    metadata = service["metadata"]
    behind = sorted(
        (pod for pod in pods if takes_requests(pod) and selects(service, pod)), key=lambda pod: pod["metadata"]["uid"]
    )
    routes: dict[Address, Route] = {}
    for port in service["spec"].get("ports") or ():
        if port.get("protocol", "TCP") != "TCP":
            continue
        numbers = ((pod, target_port(pod, port)) for pod in behind)
        backends = tuple(
            Backend(pod["metadata"]["uid"], pod["status"]["podIP"], number) for pod, number in numbers if number
        )
        routes[(service["spec"]["clusterIP"], port["port"])] = Route(
            f"{metadata['namespace']}/{metadata['name']}", backends
        )
    return routes


class RouteTable:
    """All routes. Feed it what the watches say; only Services that a change touches are worked out again."""

    def __init__(self) -> None:
        self.routes: dict[Address, Route] = {}
        self._services: dict[Key, Manifest] = {}
        self._pods: dict[str, dict[str, Manifest]] = {}

    def service_changed(self, service: Manifest, *, deleted: bool) -> None:
        """A Service was added, changed or deleted."""
        metadata = service["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if before := self._services.pop(key, None):
            for address in routes_of(before, ()):
                self.routes.pop(address, None)
        if not deleted:
            self._services[key] = service
            self._work_out(service)

    def pod_changed(self, pod: Manifest, *, deleted: bool) -> None:
        """A pod was added, changed or deleted."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        pods = self._pods.setdefault(namespace, {})
        before = pods.pop(name, None)
        if not deleted:
            pods[name] = pod
        for (where, _), service in self._services.items():
            if where == namespace and (selects(service, pod) or (before is not None and selects(service, before))):
                self._work_out(service)

    def _work_out(self, service: Manifest) -> None:
        pods = self._pods.get(service["metadata"]["namespace"], {})
        self.routes.update(routes_of(service, pods.values()))
