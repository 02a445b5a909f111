"""What only a kubelet asks of the API server: tokens for pods, and storage objects."""

from __future__ import annotations

from typing import Final

from plimsoll_kube.client import KubeClient
from plimsoll_kube.resources import SERVICE_ACCOUNT, Manifest, Resource

PERSISTENT_VOLUME: Final = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
STORAGE_CLASS: Final = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)


class KubeletClient(KubeClient):
    """A `KubeClient` with a kubelet's own requests."""

    async def service_account_token(
        self, namespace: str, service_account: str, pod: Manifest, audience: str, seconds: int
    ) -> str:
        """A token of a service account that is valid as long as the pod exists, at most `seconds`.

        Raises:
            ApiError: the server refuses.
        """
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        spec: Manifest = {"expirationSeconds": max(seconds, 600), "boundObjectRef": bound}
        if audience:
            spec["audiences"] = [audience]
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = SERVICE_ACCOUNT.path(namespace, service_account, "token")
        answer = await self._json("create", "POST", path, None, request)
        return str(answer["status"]["token"])

    async def create_of(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Create an object of a resource that only kubelets and provisioners speak of; `Conflict` when it exists."""
        return await self._json("create", "POST", resource.path(manifest["metadata"].get("namespace")), None, manifest)
