"""A container's environment, as the API documents it (core/v1 EnvVar, EnvFromSource)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from plimsoll_cli.sandbox.node.expansion import expand
from plimsoll_cli.sandbox.node.resource_fields import resource_field

Manifest = Mapping[str, Any]
_VARIABLE: Final = re.compile(r"[^=\x00]+")
_KEYED_FIELD: Final = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


class MissingReferenceError(Exception):
    """A ConfigMap, Secret, key or field that the container needs is not there (the kubelet retries)."""


@dataclass(frozen=True)
class Sources:
    """What references are looked up in: ConfigMaps and Secrets of the pod's namespace by name."""

    config_maps: Mapping[str, Manifest] = field(default_factory=dict)
    secrets: Mapping[str, Manifest] = field(default_factory=dict)


@dataclass(frozen=True)
class PodFacts:
    """What is known only once a pod has its place.

    Args:
        pod_ip: the pod's address.
        host_ip: the node's address.
        allocatable: the node's resources, for limits that are not set.
    """

    pod_ip: str
    host_ip: str
    allocatable: Mapping[str, str] = field(default_factory=dict)


def referenced(container: Manifest) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the ConfigMaps and of the Secrets that a container's environment mentions."""
    config_maps, secrets = set(), set()
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        config_maps |= {source["configMapKeyRef"]["name"]} if "configMapKeyRef" in source else set()
        secrets |= {source["secretKeyRef"]["name"]} if "secretKeyRef" in source else set()
    for source in container.get("envFrom") or ():
        config_maps |= {source["configMapRef"]["name"]} if "configMapRef" in source else set()
        secrets |= {source["secretRef"]["name"]} if "secretRef" in source else set()
    return frozenset(config_maps), frozenset(secrets)


def build(pod: Manifest, container: Manifest, sources: Sources, facts: PodFacts) -> dict[str, str]:
    """The variables of a container: envFrom first, then env in order, each seeing those before it.

    Raises:
        MissingReferenceError: something that is not optional is absent.
    """
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables.update(_all_of(source, sources))
    for variable in container.get("env") or ():
        if "valueFrom" not in variable:
            variables[variable["name"]] = expand(variable.get("value") or "", variables)
            continue
        value = _referenced_value(pod, container, variable["valueFrom"], sources, facts)
        if value is not None:
            variables[variable["name"]] = value
    return variables


def _all_of(source: Manifest, sources: Sources) -> dict[str, str]:
    """Every key of an envFrom source that can name a variable."""
    reference = source.get("configMapRef") or source.get("secretRef") or {}
    kind = "configMap" if "configMapRef" in source else "secret"
    data = _data(kind, reference["name"], sources)
    if data is None:
        if reference.get("optional"):
            return {}
        raise MissingReferenceError(f'{kind} "{reference["name"]}" not found')
    prefix = source.get("prefix") or ""
    return {prefix + key: value for key, value in data.items() if _VARIABLE.fullmatch(prefix + key)}


def _referenced_value(
    pod: Manifest, container: Manifest, source: Manifest, sources: Sources, facts: PodFacts
) -> str | None:
    """The value of one valueFrom; None when it is optional and absent."""
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in source:
        return resource_field(pod, container, source["resourceFieldRef"], facts.allocatable)
    kind = "configMap" if "configMapKeyRef" in source else "secret"
    reference = source.get("configMapKeyRef") or source.get("secretKeyRef")
    if reference is None:
        raise MissingReferenceError(f"the sandbox does not know valueFrom.{next(iter(source), '')}")
    data = _data(kind, reference["name"], sources)
    if data is not None and reference["key"] in data:
        return data[reference["key"]]
    if reference.get("optional"):
        return None
    if data is None:
        raise MissingReferenceError(f'{kind} "{reference["name"]}" not found')
    raise MissingReferenceError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


def _data(kind: str, name: str, sources: Sources) -> dict[str, str] | None:
    """A ConfigMap's or Secret's data as text."""
    if kind == "configMap":
        found = sources.config_maps.get(name)
        return None if found is None else dict(found.get("data") or {})
    found = sources.secrets.get(name)
    if found is None:
        return None
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in (found.get("data") or {}).items()}


def field_value(pod: Manifest, path: str, facts: PodFacts) -> str:
    """A field of the pod, by the paths that the downward API has.

    Raises:
        MissingReferenceError: it has no such path.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
    }
    if path in simple:
        return str(simple[path])
    if keyed := _KEYED_FIELD.fullmatch(path):
        return str((metadata.get(keyed.group(1)) or {}).get(keyed.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):  # volumes only
        entries = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    raise MissingReferenceError(f"the downward API has no field {path}")
