"""Lay out a pod's volumes as folders of this machine."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.sandbox.node.cluster import Cluster
from plimsoll_cli.sandbox.node.environment import MissingReferenceError, PodFacts, field_value
from plimsoll_cli.sandbox.node.expansion import expand
from plimsoll_cli.sandbox.node.paths import Mount
from plimsoll_cli.sandbox.node.resource_fields import resource_field

Manifest = Mapping[str, Any]
_DEFAULT_MODE: Final = 0o644
"""core/v1: defaultMode of ConfigMap, Secret, projected and downward API volumes."""


class MountError(Exception):
    """A volume cannot be laid out now (the kubelet retries and logs FailedMount)."""


class Volumes:
    """The volumes of one pod below its folder."""

    def __init__(self, folder: Path, cluster: Cluster, facts: PodFacts) -> None:
        self._folder = folder
        self._cluster = cluster
        self._facts = facts

    async def lay_out(self, pod: Manifest) -> dict[str, str]:
        """Make every volume; volume name to the path it lies at. Idempotent; emptyDir keeps what it holds.

        Raises:
            MountError: something that it needs is absent.
        """
        places: dict[str, str] = {}
        for volume in pod["spec"].get("volumes") or ():
            try:
                places[volume["name"]] = await self._place(pod, volume)
            except (MissingReferenceError, OSError) as error:
                raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}": {error}') from error
        return places

    async def _place(self, pod: Manifest, volume: Manifest) -> str:
        namespace = pod["metadata"]["namespace"]
        if "hostPath" in volume:
            return _host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            return await self._cluster.claim_path(namespace, volume["persistentVolumeClaim"]["claimName"])
        folder = self._folder / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if "projected" in volume:
            mode = volume["projected"].get("defaultMode", _DEFAULT_MODE)
            for source in volume["projected"].get("sources") or ():
                await self._project(pod, source, folder, mode)
        else:
            await self._project(pod, volume, folder, None)
        return str(folder)

    async def _project(self, pod: Manifest, source: Manifest, folder: Path, mode: int | None) -> None:
        """Write the files of one source."""
        namespace = pod["metadata"]["namespace"]
        if "configMap" in source:
            reference = source["configMap"]
            found = await self._cluster.config_map(namespace, reference["name"])
            _write_keys("configmap", reference, reference["name"], _config_data(found), folder, mode)
        elif "secret" in source:
            reference = source["secret"]
            name = reference.get("secretName") or reference["name"]
            found = await self._cluster.secret(namespace, name)
            _write_keys("secret", reference, name, _secret_data(found), folder, mode)
        elif "downwardAPI" in source:
            for item in source["downwardAPI"].get("items") or ():
                text = self._downward(pod, item)
                _write(folder, item["path"], text.encode(), item.get("mode") or mode or _DEFAULT_MODE)
        elif "serviceAccountToken" in source:
            token = await self._cluster.token(pod, source["serviceAccountToken"])
            _write(folder, source["serviceAccountToken"]["path"], token.encode(), 0o600)

    def _downward(self, pod: Manifest, item: Manifest) -> str:
        """One file of the downward API."""
        if "fieldRef" in item:
            return field_value(pod, item["fieldRef"]["fieldPath"], self._facts)
        container = {"name": item["resourceFieldRef"]["containerName"]}
        return resource_field(pod, container, item["resourceFieldRef"], self._facts.allocatable)


def mounts_of(container: Manifest, places: Mapping[str, str], variables: Mapping[str, str]) -> tuple[Mount, ...]:
    """Where a container's mounts lie on this machine."""
    mounts = []
    for mount in container.get("volumeMounts") or ():
        target = places[mount["name"]]
        below = mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables)
        if below:
            target = os.path.join(target, below)
            if not os.path.exists(target):
                os.makedirs(target, exist_ok=True)
        mounts.append(Mount(mount["mountPath"], target))
    return tuple(mounts)


def remove(folder: Path) -> None:
    """Remove what was laid out; folders of hostPath and claims lie elsewhere and stay."""
    shutil.rmtree(folder, ignore_errors=True)


def _host_path(source: Manifest) -> str:
    """A path of this machine, made or checked as its type asks (core/v1 HostPathVolumeSource)."""
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    if (kind.startswith("Directory") and not path.is_dir()) or (kind.startswith("File") and not path.is_file()):
        raise MissingReferenceError(f"hostPath type check failed: {path} is not a {kind.removesuffix('OrCreate')}")
    return str(path)


def _config_data(config_map: Manifest | None) -> dict[str, bytes] | None:
    if config_map is None:
        return None
    data = {key: text.encode() for key, text in (config_map.get("data") or {}).items()}
    return data | {key: base64.b64decode(text) for key, text in (config_map.get("binaryData") or {}).items()}


def _secret_data(secret: Manifest | None) -> dict[str, bytes] | None:
    if secret is None:
        return None
    return {key: base64.b64decode(text) for key, text in (secret.get("data") or {}).items()}


def _write_keys(
    kind: str, reference: Manifest, name: str, data: dict[str, bytes] | None, folder: Path, mode: int | None
) -> None:
    """Write all keys, or the listed items, of a ConfigMap or Secret."""
    optional = bool(reference.get("optional"))
    if data is None:
        if optional:
            return
        raise MissingReferenceError(f'{kind} "{name}" not found')
    mode = reference.get("defaultMode") or mode or _DEFAULT_MODE
    items = reference.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] in data:
            _write(folder, item["path"], data[item["key"]], item.get("mode") or mode)
        elif not optional:
            raise MissingReferenceError(f"{kind} {name} references non-existent key {item['key']}")


def _write(folder: Path, relative: str, content: bytes, mode: int) -> None:
    """Write a file whole; a reader sees the old or the new one."""
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content)
    partial.chmod(mode)
    partial.rename(target)
