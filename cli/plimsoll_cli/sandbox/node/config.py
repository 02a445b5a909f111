"""The node agent's configuration file."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plimsoll_cli.errors import CommandError

GPU: Final = "nvidia.com/gpu"
"""The extended resource a GPU is counted by; also the prefix of the labels that GPU feature discovery sets."""


class _Model(BaseModel):
    """No unknown field: a misspelt one would be ignored in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Taint(_Model):
    """A taint of a node, as the API has it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


class NodeConfig(_Model):
    """One Node object and what the agent pretends it has."""

    name: str
    gpu_product: str = Field("", description="Value of the label nvidia.com/gpu.product; containers with a GPU see it.")
    gpu_memory_mib: int = Field(0, description="Value of the label nvidia.com/gpu.memory, MiB per GPU.")
    capacity: dict[str, str] = Field(
        default_factory=lambda: {"cpu": "64", "memory": "512Gi", "pods": "110"},
        description="Resource quantities by name; `nvidia.com/gpu` among them. Scheduled by, not enforced.",
    )
    labels: dict[str, str] = Field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return int(self.capacity.get(GPU, "0"))


class ImageEntry(_Model):
    """What stands in for the images that match a pattern.

    `argv` of a container is `command + args`, or `entrypoint + args` when it has no command. The longest key of
    `commands` that is a prefix of it, word by word, is replaced by its value. With `local`, any other program is looked
    up on this machine: by its path, else by its name on PATH.
    """

    pattern: str = Field(description="fnmatch pattern of image names, such as `vllm/vllm-openai:*`.")
    commands: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Leading words (`vllm serve`) to the local command that replaces them."
    )
    entrypoint: tuple[str, ...] = ()
    local: bool = False
    environment: dict[str, str] = Field(default_factory=dict)
    nice: int = Field(
        0, ge=0, le=19, description="Scheduling niceness, so that engines leave the control plane its pace."
    )


class AgentConfig(_Model):
    """Everything the node agent is told by the sandbox that starts it."""

    nodes: tuple[NodeConfig, ...] = Field(min_length=1)
    pod_cidr: str = Field(
        description="Addresses for nodes (the first /24 of it) and pods (the rest); a /16 of 127.0.0.0/8."
    )
    state_directory: Path
    images: tuple[ImageEntry, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict, description="Variables for every container.")
    supervisor_pid: int | None = Field(None, description="When this process ends, every container is killed.")
    kubelet_certificate: Path | None = Field(
        None, description="Serving certificate for the node addresses; None makes a self-signed one."
    )
    kubelet_key: Path | None = None
    client_authority: Path | None = Field(
        None, description="Only clients with a certificate of this authority may read logs; None asks for none."
    )
    kubelet_port: int = 10250
    front: bool = Field(True, description="Whether this agent answers on the Services' cluster addresses.")
    storage_class: str = Field("sandbox", description="Claims of this class get a folder in the state directory.")
    restart_backoff_seconds: float = Field(10.0, description="First delay of CrashLoopBackOff; the kubelet's is 10 s.")
    restart_backoff_limit_seconds: float = Field(300.0, description="Longest delay; the kubelet's is 300 s.")
    restart_backoff_reset_seconds: float = Field(600.0, description="A run this long forgets earlier crashes.")
    retry_seconds: float = Field(
        2.0, description="Pause before an absent ConfigMap, Secret or claim is looked up again."
    )
    node_lease_seconds: int = 40

    def node_address(self, name: str) -> str:
        """Address of a node's kubelet port: the first /24 of the block, in the order of the file."""
        index = next(i for i, node in enumerate(self.nodes) if node.name == name)
        return str(ipaddress.ip_network(self.pod_cidr).network_address + 1 + index)


def load(path: Path) -> AgentConfig:
    """Read a configuration file.

    Raises:
        CommandError: it is absent, not JSON, or a field is wrong; named with its place in the file.
    """
    try:
        return AgentConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise CommandError(f"cannot read the node agent's configuration {path}: {error}", 2) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CommandError(f"{path}: {place}: {first['msg']}", 2) from error
