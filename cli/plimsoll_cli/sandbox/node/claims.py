"""A provisioner for claims: a folder of this machine per claim, as a hostPath volume."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.sandbox.node.cluster import Cluster
from plimsoll_kube.errors import ApiError, Conflict
from plimsoll_kube.following import follow
from plimsoll_kube.kubelet_client import PERSISTENT_VOLUME, STORAGE_CLASS, KubeletClient
from plimsoll_kube.resources import PERSISTENT_VOLUME_CLAIM

Manifest = Mapping[str, Any]
logger = logging.getLogger(__name__)
PROVISIONER: Final = "plimsoll.dev/sandbox"
_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"


async def register_class(client: KubeletClient, name: str) -> None:
    """Create the StorageClass, the cluster's default.

    Raises:
        ApiError: the API server refused.
    """
    manifest = STORAGE_CLASS.manifest(
        None,
        name,
        metadata={"annotations": {_DEFAULT_CLASS: "true"}},
        provisioner=PROVISIONER,
        reclaimPolicy="Delete",
        volumeBindingMode="Immediate",
    )
    with contextlib.suppress(Conflict):
        await client.create_of(STORAGE_CLASS, manifest)


def volume_for(claim: Manifest, storage_class: str, directory: Path) -> dict[str, Any] | None:
    """The volume a pending claim of the class gets; None when it needs none.

    The claim's own access modes and size are granted as they are: a folder has neither.
    """
    spec, metadata = claim["spec"], claim["metadata"]
    wanted = spec.get("storageClassName") == storage_class and not spec.get("volumeName")
    if (
        not wanted
        or (claim.get("status") or {}).get("phase", "Pending") != "Pending"
        or "deletionTimestamp" in metadata
    ):
        return None
    name = f"pvc-{metadata['uid']}"
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return PERSISTENT_VOLUME.manifest(
        None,
        name,
        metadata={"annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        spec={
            "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": reference,
            "hostPath": {"path": str(directory / name), "type": "DirectoryOrCreate"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": storage_class,
            **({"volumeMode": spec["volumeMode"]} if "volumeMode" in spec else {}),
        },
    )


async def provision(cluster: Cluster, storage_class: str, directory: Path) -> None:
    """Give every pending claim a folder, and remove it with its volume; runs as long as the agent."""
    await asyncio.gather(
        _provision_claims(cluster.client, storage_class, directory), _reclaim(cluster.client, directory)
    )


async def _provision_claims(client: KubeletClient, storage_class: str, directory: Path) -> None:
    async for change in follow(client, PERSISTENT_VOLUME_CLAIM):
        if change.type not in ("ADDED", "MODIFIED"):
            continue
        volume = volume_for(change.object, storage_class, directory)
        if volume is None:
            continue
        try:
            os.makedirs(volume["spec"]["hostPath"]["path"], exist_ok=True)
            with contextlib.suppress(Conflict):
                await client.create_of(PERSISTENT_VOLUME, volume)
        except (ApiError, OSError) as error:
            logger.warning("claim %s: %s", change.object["metadata"]["name"], error)


async def _reclaim(client: KubeletClient, directory: Path) -> None:
    """Delete released volumes of ours with their folders."""
    async for change in follow(client, PERSISTENT_VOLUME):
        volume = change.object
        if change.type == "SYNCED" or (volume.get("status") or {}).get("phase") != "Released":
            continue
        metadata = volume["metadata"]
        if (metadata.get("annotations") or {}).get("pv.kubernetes.io/provisioned-by") != PROVISIONER:
            continue
        with contextlib.suppress(ApiError):
            await client.delete(PERSISTENT_VOLUME, None, metadata["name"], uid=metadata["uid"])
            shutil.rmtree(directory / metadata["name"], ignore_errors=True)
