"""What is written down about a pod so that the next agent can take it up."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from plimsoll_cli.sandbox.node.container_process import read_json
from plimsoll_cli.sandbox.node.shim import write_json


@dataclass(frozen=True)
class PodRecord:
    """A pod's place.

    Args:
        uid: of the pod.
        namespace: of the pod.
        name: of the pod.
        node: its node.
        pod_ip: its address.
        gpus: container name to GPU indices.
        start_time: when the node took it, seconds since 1970.
    """

    uid: str
    namespace: str
    name: str
    node: str
    pod_ip: str
    gpus: dict[str, tuple[int, ...]]
    start_time: float


def pod_folder(state_directory: Path, uid: str) -> Path:
    """Where everything of a pod lies."""
    return state_directory / "pods" / uid


def save(state_directory: Path, record: PodRecord) -> None:
    """Write a record before anything of the pod runs."""
    folder = pod_folder(state_directory, record.uid)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(str(folder / "record.json"), asdict(record))


def load_all(state_directory: Path) -> list[PodRecord]:
    """The records of every pod that an earlier agent ran."""
    records = []
    for file in sorted(state_directory.glob("pods/*/record.json")):
        content = read_json(file)
        if content is not None:
            content["gpus"] = {name: tuple(indices) for name, indices in content["gpus"].items()}
            records.append(PodRecord(**content))
    return records


def forget(state_directory: Path, uid: str) -> None:
    """Remove a pod's folder with its logs and volumes."""
    shutil.rmtree(pod_folder(state_directory, uid), ignore_errors=True)
