"""From a container's manifest to what is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.sandbox.node import environment
from plimsoll_cli.sandbox.node.config import ImageEntry
from plimsoll_cli.sandbox.node.container_process import Launch
from plimsoll_cli.sandbox.node.context import PodContext
from plimsoll_cli.sandbox.node.expansion import expand_all
from plimsoll_cli.sandbox.node.handlers import Target
from plimsoll_cli.sandbox.node.images import Program, program_for
from plimsoll_cli.sandbox.node.paths import Mount, rewrite, rewrite_all
from plimsoll_cli.sandbox.node.volumes import mounts_of
from plimsoll_runtime.vllm_environment import cache_directory

Manifest = Mapping[str, Any]
TERMINATION_LOG: Final = "/dev/termination-log"
"""core/v1: default of terminationMessagePath."""


@dataclass(frozen=True)
class Prepared:
    """Everything needed to start a container and to act in it.

    Args:
        launch: what the shim is told.
        target: where probes and hooks act.
        mounts: its paths on this machine.
        entry: what stands in for its image.
        termination_log: the file its last words are read from.
    """

    launch: Launch
    target: Target
    mounts: tuple[Mount, ...]
    entry: ImageEntry
    termination_log: Path

    def command(self, words: list[str]) -> tuple[str, ...]:
        """A command of a probe or hook as it runs on this machine.

        Raises:
            ProgramNotFoundError: the image has no such program.
        """
        program = program_for(self.entry, words, self.launch.environment.get("PATH", ""))
        return _inside(program, self.mounts)


async def prepare(context: PodContext, container: Manifest, run: Path, entry: ImageEntry) -> Prepared:
    """Work out environment, paths and program of one run of a container.

    Args:
        context: its pod.
        container: its manifest.
        run: the run's folder.
        entry: what stands in for its image.

    Raises:
        MissingReferenceError: a ConfigMap, Secret or key is absent (the kubelet's CreateContainerConfigError).
        ProgramNotFoundError: the image has no such program.
    """
    cluster, namespace = context.agent.cluster, context.pod["metadata"]["namespace"]
    config_maps, secrets = environment.referenced(container)
    found_maps = {name: await cluster.config_map(namespace, name) for name in config_maps}
    found_secrets = {name: await cluster.secret(namespace, name) for name in secrets}
    sources = environment.Sources(
        {name: found for name, found in found_maps.items() if found is not None},
        {name: found for name, found in found_secrets.items() if found is not None},
    )
    own = environment.build(context.pod, container, sources, context.facts)
    termination_log = run / "termination-log"
    cache = str(cache_directory(os.environ))
    mounts = (
        *mounts_of(container, context.places, own),
        Mount(container.get("terminationMessagePath") or TERMINATION_LOG, str(termination_log)),
        # Models that the project made stay visible where the cache lies below a path that a volume covers, as /tmp is.
        Mount(cache, cache),
    )
    variables = context.agent.base_environment()
    variables |= {name: rewrite(value, mounts) for name, value in entry.environment.items()}
    variables |= _device_variables(context, container["name"])
    variables |= {name: rewrite(value, mounts) for name, value in own.items()}
    words = expand_all([*(container.get("command") or entry.entrypoint), *(container.get("args") or ())], own)
    program = program_for(entry, words, variables.get("PATH", ""))
    arguments = _inside(program, mounts)
    home = context.folder / "root" / container["name"]
    home.mkdir(parents=True, exist_ok=True)
    directory = _working_directory(rewrite(container.get("workingDir") or "", mounts), home)
    launch = Launch(arguments, variables, directory, program.nice, context.agent.config.supervisor_pid)
    ports = {port["name"]: int(port["containerPort"]) for port in container.get("ports") or () if "name" in port}
    return Prepared(launch, Target(context.pod_ip, ports, variables, directory), mounts, entry, termination_log)


def _inside(program: Program, mounts: Sequence[Mount]) -> tuple[str, ...]:
    """The command line with the paths that a container would see where its volumes really are."""
    return (*program.arguments[: program.local], *rewrite_all(program.arguments[program.local :], mounts))


def _working_directory(wanted: str, home: Path) -> str:
    """The container's workingDir where this machine has it, else its own folder."""
    return wanted if wanted and os.path.isdir(wanted) else str(home)


def _device_variables(context: PodContext, name: str) -> dict[str, str]:
    """What tells a container its address and its GPUs (docs/contracts.md); without GPUs it sees none."""
    indices = context.gpus.get(name, ())
    variables = {
        "HOSTNAME": str(context.pod["spec"].get("hostname") or context.pod["metadata"]["name"]),
        "PLIMSOLL_BIND_ADDRESS": context.pod_ip,
        "NVIDIA_VISIBLE_DEVICES": ",".join(map(str, indices)) or "void",
    }
    if indices and context.node.gpu_product:
        variables["PLIMSOLL_GPU_PRODUCT"] = context.node.gpu_product
    return variables
