"""Node and Lease manifests."""

from __future__ import annotations

import platform
from typing import Any

from plimsoll_api.names import GPU_COUNT_LABEL, GPU_MEMORY_LABEL, GPU_PRODUCT_LABEL
from plimsoll_cli.sandbox.node.config import AgentConfig, NodeConfig
from plimsoll_cli.sandbox.node.status import timestamp
from plimsoll_kube.resources import LEASE, NODE

Manifest = dict[str, Any]
LEASE_NAMESPACE = "kube-node-lease"
_HEALTHY_REASONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "the sandbox's node agent runs"),
)


def labels(node: NodeConfig) -> dict[str, str]:
    """What the kubelet and GPU feature discovery put on a node, then what the configuration asks for."""
    found = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "plimsoll.dev/sandbox": "true",
    }
    if node.gpus:
        found |= {"nvidia.com/gpu.present": "true", GPU_COUNT_LABEL: str(node.gpus)}
    if node.gpu_product:
        found[GPU_PRODUCT_LABEL] = node.gpu_product
    if node.gpu_memory_mib:
        found[GPU_MEMORY_LABEL] = str(node.gpu_memory_mib)
    return found | node.labels


def node_manifest(node: NodeConfig) -> Manifest:
    """The Node as it is registered."""
    taints = [taint.model_dump(exclude_defaults=False) for taint in node.taints]
    spec = {"providerID": f"plimsoll-sandbox://{node.name}", **({"taints": taints} if taints else {})}
    return NODE.manifest(None, node.name, metadata={"labels": labels(node)}, spec=spec)


def node_status(config: AgentConfig, node: NodeConfig, existing: Manifest, now: float) -> Manifest:
    """The Node's status; transition times are kept where nothing changed.

    Args:
        config: for addresses and the kubelet port.
        node: which node.
        existing: the Node as the API server has it.
        now: seconds since 1970.
    """
    before = {c["type"]: c for c in (existing.get("status") or {}).get("conditions") or ()}
    conditions = []
    for kind, status, reason, message in _HEALTHY_REASONS:
        same = before.get(kind, {}).get("status") == status
        since = before[kind]["lastTransitionTime"] if same else timestamp(now)
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": timestamp(now),
                "lastTransitionTime": since,
            }
        )
    capacity = {"cpu": "64", "memory": "512Gi", "pods": "110", **node.capacity}
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": config.node_address(node.name)},
            {"type": "Hostname", "address": node.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.kubelet_port}},
        "nodeInfo": {
            "architecture": platform.machine(),
            "bootID": "",
            "containerRuntimeVersion": "plimsoll-sandbox://1",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.36.3-plimsoll-sandbox",
            "machineID": node.name,
            "operatingSystem": "linux",
            "osImage": "Plimsoll sandbox (local processes)",
            "systemUUID": node.name,
        },
    }


def lease_manifest(node: NodeConfig, node_uid: str, seconds: int, now_text: str) -> Manifest:
    """The node's Lease: the node lifecycle controller takes a node for dead when it is not renewed."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node_uid}
    return LEASE.manifest(
        LEASE_NAMESPACE,
        node.name,
        metadata={"ownerReferences": [owner]},
        spec={"holderIdentity": node.name, "leaseDurationSeconds": seconds, "renewTime": now_text},
    )
