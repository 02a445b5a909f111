"""What a sandbox is started with."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

from plimsoll_cli.errors import CommandError

Engine = Literal["simulated", "vllm"]
OPTIONAL_COMPONENTS: Final = ("operator", "detector", "node-agent", "prometheus")

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_NODE_FIELDS: Final = ("gpu", "name", "cpu", "memory")


@dataclass(frozen=True)
class NodeShape:
    """One machine of the sandbox, as its Node object describes it.

    Args:
        product: GPU product as GPU feature discovery labels it; empty for a node without GPUs.
        gpus: number of GPUs.
        name: node name; empty means `node-1`, `node-2` and so on.
        cpu: allocatable CPUs, a Kubernetes quantity.
        memory: allocatable memory, a Kubernetes quantity.
    """

    product: str = "NVIDIA-H100-80GB-HBM3"
    gpus: int = 8
    name: str = ""
    cpu: str = "192"
    memory: str = "2Ti"


DEFAULT_NODES: Final = (NodeShape("NVIDIA-L40S", 8), NodeShape("NVIDIA-H100-80GB-HBM3", 8))
"""Two kinds, so that there is something to choose from; both are among the candidates of examples/chat.yaml."""


@dataclass(frozen=True)
class SandboxOptions:
    """Everything that a sandbox's start depends on.

    Args:
        name: tells sandboxes on one machine apart.
        nodes: its machines.
        engine: what a pod that asks for vLLM gets: the simulated engine, or the real one's CPU build.
        cpu_image: whether the image localhost/vllm-cpu is the real engine's CPU build, whatever `engine` is.
        scrape_interval: seconds between two scrapes of a serving pod.
        detector_interval: seconds between two decisions.
        without: components of `OPTIONAL_COMPONENTS` that are not started.
        operators: operator processes; more than one shows a failover.
        detectors: detector processes.
        operator_arguments: further arguments of the operator.
        detector_arguments: further arguments of the detector.
        controller_manager_arguments: further arguments of kube-controller-manager.
        helm: operator and detector are pods, installed with the chart, instead of processes beside the cluster; with
            both left out, the chart is left to whoever uses the sandbox.
        directory: where its state goes; None means the user's state folder.
    """

    name: str = "default"
    nodes: tuple[NodeShape, ...] = DEFAULT_NODES
    engine: Engine = "simulated"
    cpu_image: bool = False
    scrape_interval: float = 5.0
    detector_interval: float = 5.0
    without: frozenset[str] = frozenset()
    operators: int = 1
    detectors: int = 1
    operator_arguments: tuple[str, ...] = ()
    detector_arguments: tuple[str, ...] = ()
    controller_manager_arguments: tuple[str, ...] = ()
    helm: bool = False
    directory: Path | None = field(default=None)

    def __post_init__(self) -> None:
        """Check what a typing error would break.

        Raises:
            CommandError: a field is out of range.
        """
        if not _NAME.fullmatch(self.name):
            raise CommandError(f"--name {self.name!r}: use up to 40 of a-z, 0-9 and -, such as `demo-2`", 2)
        if unknown := sorted(self.without.difference(OPTIONAL_COMPONENTS)):
            raise CommandError(
                f"--without {','.join(unknown)}: only {', '.join(OPTIONAL_COMPONENTS)} can be left out", 2
            )
        called = self.node_names
        if twice := sorted({one for one in called if called.count(one) > 1}):
            raise CommandError(f"--node: two are called {twice[0]}; give each a name of its own", 2)
        for option, count in (("--operators", self.operators), ("--detectors", self.detectors)):
            component = option.removeprefix("--").removesuffix("s")
            if count < 1 and component not in self.without:
                raise CommandError(f"{option} {count}: at least 1; --without={component} leaves it out", 2)
        if min(self.scrape_interval, self.detector_interval) < 1:
            raise CommandError("--scrape-interval and --detector-interval: at least 1 s", 2)

    @property
    def node_names(self) -> list[str]:
        """Of its nodes, in their order; those without a name are numbered."""
        return [node.name or f"node-{number}" for number, node in enumerate(self.nodes, 1)]

    @property
    def state_directory(self) -> Path:
        """Where state, logs and kubeconfigs go."""
        return self.directory or sandboxes_directory() / self.name

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON; `from_json` reads it back."""
        directory = str(self.directory) if self.directory else None
        return {**asdict(self), "without": sorted(self.without), "directory": directory}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The options that `as_json` wrote."""
        return cls(
            **{
                **content,
                "nodes": tuple(NodeShape(**node) for node in content["nodes"]),
                "without": frozenset(content["without"]),
                "operator_arguments": tuple(content["operator_arguments"]),
                "detector_arguments": tuple(content["detector_arguments"]),
                "controller_manager_arguments": tuple(content["controller_manager_arguments"]),
                "directory": Path(content["directory"]) if content["directory"] else None,
            }
        )


def sandboxes_directory() -> Path:
    """$XDG_STATE_HOME/plimsoll/sandboxes, by default in ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "plimsoll" / "sandboxes"


def parse_node(text: str) -> NodeShape:
    """`gpu=PRODUCT:COUNT[,name=NAME][,cpu=QUANTITY][,memory=QUANTITY]` as a node; `gpu=none` for one without.

    Raises:
        CommandError: a field is unknown, doubled or malformed.
    """
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, separator, value = part.partition("=")
        if not separator or not value or key not in _NODE_FIELDS or key in fields:
            raise CommandError(
                f"--node {text!r}: {part!r} is not one of {', '.join(f'{f}=...' for f in _NODE_FIELDS)}", 2
            )
        fields[key] = value
    gpu = fields.pop("gpu", None)
    if gpu is None:
        raise CommandError(f"--node {text!r}: gpu=PRODUCT:COUNT is missing (gpu=none for a node without)", 2)
    if gpu == "none":
        return NodeShape(product="", gpus=0, **fields)
    product, separator, count = gpu.rpartition(":")
    if not product or not count.isdigit() or not 1 <= int(count) <= 16:
        raise CommandError(f"--node gpu={gpu}: write PRODUCT:COUNT with 1 to 16 GPUs, such as NVIDIA-L4:4", 2)
    return NodeShape(product=product, gpus=int(count), **fields)
