"""What a pod says about itself, as far as a service's conditions need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from plimsoll_api import names
from plimsoll_kube.resources import Manifest
from plimsoll_operator.gpu_memory import Shortage, shortage

FAILED_WAITS: Final = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError"}
)
"""Reasons for which a kubelet waits that do not pass by waiting."""

FIRST_LOOK: Final = timedelta(seconds=10)
"""After which a kubelet has looked at a pod and said that it is not `Ready`: no engine imports its libraries sooner."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Failure:
    """Why an engine container does not run.

    Attributes:
        reason: the kubelet's word, such as `CrashLoopBackOff`, `ImagePullBackOff`, `OOMKilled` or `Error`.
        message: the kubelet's message or the end of the container's log, whole.
        exit_code: of the last run; None when it never ran.
        restarts: how often it was started again.
        replaced: whether it is of an earlier run than the present one, as its log then is.
    """

    reason: str
    message: str
    exit_code: int | None
    restarts: int
    replaced: bool = False

    @property
    def shortage(self) -> Shortage | None:
        """Which way memory settings must go; None when GPU memory is not what was missing."""
        return shortage(self.message)


@dataclass(frozen=True)
class PodView:
    """One pod of a service."""

    name: str
    ready: bool
    terminating: bool
    unschedulable: str = ""
    """The scheduler's message when it finds no node; else empty."""
    failure: Failure | None = None
    uid: str = ""
    created: datetime = _LONG_AGO
    revision: str = ""
    """Of the template it was made from; empty for one that does not say."""
    served: bool = False
    """Whether it is ready, or ever was."""


def pod_view(pod: Manifest) -> PodView:
    """Read a pod's status."""
    status = pod.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    metadata = pod["metadata"]
    created = metadata.get("creationTimestamp")
    unschedulable = ""
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        unschedulable = str(scheduled.get("message") or "no node has what the pod needs")
    readiness = conditions.get("Ready") or {}
    ready = readiness.get("status") == "True"
    return PodView(
        name=metadata["name"],
        ready=ready,
        terminating="deletionTimestamp" in metadata,
        unschedulable=unschedulable,
        failure=None if ready else _failure(status),
        uid=metadata.get("uid", ""),
        created=datetime.fromisoformat(created) if created else _LONG_AGO,
        revision=(metadata.get("annotations") or {}).get(names.REVISION_ANNOTATION, ""),
        served=ready or _was_ready(status, readiness),
    )


def live_pods(pods: Iterable[Manifest]) -> tuple[PodView, ...]:
    """Views of the pods that have not ended, by name."""
    running = (pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"))
    return tuple(sorted((pod_view(pod) for pod in running), key=lambda view: view.name))


def _was_ready(status: dict[str, Any], readiness: dict[str, Any]) -> bool:
    """Whether a pod that is not ready once was: `Ready` then changed after the kubelet had first looked at the pod."""
    began, changed = status.get("startTime"), readiness.get("lastTransitionTime")
    if not began or not changed:
        return False
    return datetime.fromisoformat(changed) - datetime.fromisoformat(began) > FIRST_LOOK


def _failure(status: dict[str, Any]) -> Failure | None:
    """Why the engine's container is not running, when waiting will not help."""
    for container in status.get("containerStatuses") or []:
        if container.get("name") != names.ENGINE_CONTAINER:
            continue
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
        restarts = int(container.get("restartCount") or 0)
        if waiting.get("reason") in FAILED_WAITS or ended:
            text = str(ended.get("message") or waiting.get("message") or "").strip()
            return Failure(
                reason=str(waiting.get("reason") or ended.get("reason") or "Error"),
                message=text,
                exit_code=ended.get("exitCode"),
                restarts=restarts,
                replaced=bool(ended) and not state.get("terminated"),
            )
    return None
