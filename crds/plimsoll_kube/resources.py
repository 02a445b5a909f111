"""Which resources the processes speak of, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from plimsoll_api import names

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True)
class Resource:
    """One resource of the API.

    Attributes:
        group: API group; empty for the core group.
        version: version within the group.
        plural: name in a URL.
        kind: name in a manifest.
        namespaced: whether objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Path of the group's version, where discovery answers."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """URL path of a collection (no name), an object or a subresource of it.

        Raises:
            ValueError: an object of a namespaced resource was named without its namespace.
        """
        if self.namespaced and name is not None and namespace is None:
            raise ValueError(f"{self.kind} {name} needs a namespace")
        parts = [self.root]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def manifest(self, namespace: str | None, name: str, **fields: Any) -> Manifest:
        """An object of this resource with its identity and the given top-level fields."""
        metadata: Manifest = {"name": name}
        if self.namespaced and namespace is not None:
            metadata["namespace"] = namespace
        metadata.update(fields.pop("metadata", {}))
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **fields}


LLM_SERVICE: Final = Resource(names.GROUP, names.VERSION, names.PLURAL, names.KIND)
DEPLOYMENT: Final = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SET: Final = Resource("apps", "v1", "replicasets", "ReplicaSet")
POD: Final = Resource("", "v1", "pods", "Pod")
SERVICE: Final = Resource("", "v1", "services", "Service")
ENDPOINT_SLICE: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
CONFIG_MAP: Final = Resource("", "v1", "configmaps", "ConfigMap")
SECRET: Final = Resource("", "v1", "secrets", "Secret")
PERSISTENT_VOLUME_CLAIM: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NAMESPACE: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODE: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
SERVICE_ACCOUNT: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENT: Final = Resource("", "v1", "events", "Event")
LEASE: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
POD_DISRUPTION_BUDGET: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICY: Final = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_MONITOR: Final = Resource("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor")
HORIZONTAL_POD_AUTOSCALER: Final = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
CUSTOM_RESOURCE_DEFINITION: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

_KNOWN: Final = {
    (resource.api_version, resource.kind): resource
    for resource in list(globals().values())
    if isinstance(resource, Resource)
}


def resource_of(manifest: Manifest) -> Resource:
    """The resource that a manifest is an object of.

    Raises:
        ValueError: it is of none of the kinds above.
    """
    key = (manifest.get("apiVersion", ""), manifest.get("kind", ""))
    if key not in _KNOWN:
        raise ValueError(f"{key[0]} {key[1]} is not a kind this project speaks of: add it to plimsoll_kube.resources")
    return _KNOWN[key]
