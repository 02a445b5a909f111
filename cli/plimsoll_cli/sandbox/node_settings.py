"""What the node agent of a sandbox is told: its machines, and what stands in for which image."""

from __future__ import annotations

import sys
from typing import Final

from plimsoll_cli.chart.location import IMAGES
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.certificates import KeyPair
from plimsoll_cli.sandbox.control_plane import Layout
from plimsoll_cli.sandbox.node.config import GPU, AgentConfig, ImageEntry, NodeConfig
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_recommender.catalogue.accelerators import catalogue

PODS_PER_NODE: Final = "110"
"""The kubelet's default."""
ENGINE_NICENESS: Final = 5
"""The real engine computes all the time and leaves the control plane its pace on a small machine.

A simulated one sleeps for most of each step, and would be late with its tokens if others went before it."""
_MIB_PER_GIB: Final = 1024
_VLLM_IMAGES: Final = "vllm/vllm-openai*"
CPU_IMAGE: Final = "localhost/vllm-cpu"
"""vLLM's CPU build, as it is on this machine."""
_CPU_NICENESS: Final = 10
"""The real engine keeps a core busy even when idle; beside simulated engines it must not change their pace."""
_LOCAL_IMAGES: Final = "localhost/*"
"""Images of this name run any program of this machine: for trying sidecars, probes and hooks."""


def agent_config(
    layout: Layout, options: SandboxOptions, serving: KeyPair | None, owner: int, marker: str
) -> AgentConfig:
    """The node agent's configuration.

    Args:
        layout: folders and addresses of the sandbox.
        options: its machines, and what runs when a pod asks for vLLM.
        serving: certificate of the kubelet port.
        owner: process whose end ends every container.
        marker: `NAME=value` that every container's environment carries, so that none is overlooked.
    """
    name, _, value = marker.partition("=")
    return AgentConfig(
        nodes=tuple(map(node_config, options.nodes, options.node_names)),
        pod_cidr=layout.block.pod_cidr,
        state_directory=layout.root / "node-agent",
        images=(*engine_images(options), *product_images(), ImageEntry(pattern=_LOCAL_IMAGES, local=True)),
        environment={name: value},
        supervisor_pid=owner,
        kubelet_certificate=serving.certificate if serving else None,
        kubelet_key=serving.key if serving else None,
        kubelet_port=layout.ports.kubelet,
        client_authority=layout.certificates / "ca.crt",
    )


def node_config(shape: NodeShape, name: str) -> NodeConfig:
    """One machine as the agent registers it."""
    capacity = {"cpu": shape.cpu, "memory": shape.memory, "pods": PODS_PER_NODE}
    if shape.gpus:
        capacity[GPU] = str(shape.gpus)
    return NodeConfig(
        name=name,
        gpu_product=shape.product,
        gpu_memory_mib=gpu_memory_mib(shape.product),
        capacity=capacity,
    )


def gpu_memory_mib(product: str) -> int:
    """Memory of a GPU of the recommender's catalogue, MiB; 0 for any other, whose nodes then get no such label."""
    known = {item.product: item.memory_gib for item in catalogue()}
    return round(known.get(product, 0) * _MIB_PER_GIB)


def engine_images(options: SandboxOptions) -> tuple[ImageEntry, ...]:
    """What stands in for vLLM's images.

    Raises:
        CommandError: the real engine is asked for and its environment cannot be made.
    """
    cpu = (_real_engine_image(f"{CPU_IMAGE}:*", _CPU_NICENESS),) if options.cpu_image else ()
    if options.engine == "vllm":
        return _real_engine_image(_VLLM_IMAGES, ENGINE_NICENESS), *cpu
    return engine_entry(_VLLM_IMAGES, (sys.executable, "-m", "plimsoll_runtime.engine"), {}), *cpu


def product_images() -> tuple[ImageEntry, ...]:
    """The chart's images, run by the Python that runs the sandbox.

    A process has no mount namespace, so it is told where its service account's token lies: the agent replaces the path.
    """
    # The client takes half a second to import, which `plimsoll sandbox status` need not wait for.
    from plimsoll_kube.connection import SERVICE_ACCOUNT_DIRECTORY, SERVICE_ACCOUNT_VARIABLE

    return tuple(
        ImageEntry(
            pattern=f"*{repository}[:@]*",
            entrypoint=(sys.executable, "-m", module),
            environment={SERVICE_ACCOUNT_VARIABLE: SERVICE_ACCOUNT_DIRECTORY},
        )
        for repository, module in IMAGES.items()
    )


def _real_engine_image(pattern: str, nice: int) -> ImageEntry:
    """vLLM's CPU build in its own environment, made now when it is not there."""
    try:
        from plimsoll_runtime import launch, vllm_environment
    except ImportError as error:
        raise CommandError(f"the real engine is not part of this installation: {error}", 3) from error
    try:
        made = vllm_environment.ensure()
    except vllm_environment.VllmUnavailableError as error:
        raise CommandError(str(error), 3) from error
    program = (str(made.python), launch.__file__, "serve")
    return engine_entry(pattern, program, dict(vllm_environment.CPU_VARIABLES), nice)


def engine_entry(pattern: str, program: tuple[str, ...], environment: dict[str, str], nice: int = 0) -> ImageEntry:
    """`vllm serve` of an image of vLLM's, run by a program of this machine."""
    return ImageEntry(
        pattern=pattern,
        commands={"vllm serve": program},
        entrypoint=program,
        environment=environment,
        nice=nice,
    )
