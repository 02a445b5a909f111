"""What a pod asks for that a local process cannot have: refused before anything of it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

SUPPORTED_VOLUMES: Final = frozenset(
    {"emptyDir", "configMap", "secret", "projected", "downwardAPI", "hostPath", "persistentVolumeClaim"}
)
_PROJECTED: Final = frozenset({"configMap", "secret", "downwardAPI", "serviceAccountToken"})
_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_NAMESPACES: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")


def unsupported(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """One line per thing of a pod that the sandbox does not have, each naming its field; empty when it can run."""
    spec = pod["spec"]
    found = [f"spec.{name}: pods here are processes without namespaces" for name in _NAMESPACES if spec.get(name)]
    for index, volume in enumerate(spec.get("volumes") or ()):
        found += _of_volume(f"spec.volumes[{index}]", volume)
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            found += _of_container(f"spec.{group}[{index}]", container)
    return tuple(found)


def _of_volume(place: str, volume: Mapping[str, Any]) -> Iterator[str]:
    """A volume's kind, and what is projected into it."""
    kinds = sorted(set(volume) - {"name"}) or ["emptyDir"]
    for kind in kinds:
        if kind not in SUPPORTED_VOLUMES:
            yield f"{place}.{kind}: the sandbox has {', '.join(sorted(SUPPORTED_VOLUMES))}"
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        for kind in sorted(set(source) - _PROJECTED):
            yield f"{place}.projected.sources[{index}].{kind}: the sandbox projects {', '.join(sorted(_PROJECTED))}"


def _of_container(place: str, container: Mapping[str, Any]) -> Iterator[str]:
    """Privileges, devices, host ports and gRPC probes."""
    if (container.get("securityContext") or {}).get("privileged"):
        yield f"{place}.securityContext.privileged: containers here are processes of your own user"
    if container.get("volumeDevices"):
        yield f"{place}.volumeDevices: the sandbox has no block devices"
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield f"{place}.ports[{index}].hostPort: a pod answers on its own address only"
    for probe in _PROBES:
        if "grpc" in (container.get(probe) or {}):
            yield f"{place}.{probe}.grpc: the sandbox probes by httpGet, tcpSocket and exec"
