"""What a pod's status says, computed from the states of its containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

Manifest = dict[str, Any]

OWN_CONDITIONS: Final = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
"""Condition types that a kubelet writes; all others belong to somebody else and are kept."""


@dataclass(frozen=True)
class Waiting:
    """A container that does not run yet, or not at the moment."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """A container that runs since a time, in seconds since 1970."""

    started_at: float


@dataclass(frozen=True)
class Terminated:
    """A container that has ended; times in seconds since 1970."""

    exit_code: int
    reason: str
    message: str
    started_at: float
    finished_at: float
    signal: int = 0


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerView:
    """One container as its status shows it.

    Args:
        name: of the container.
        image: as the pod names it.
        sidecar: an init container with restartPolicy Always.
        state: what it does now.
        last: how its previous run ended.
        restarts: how often it was started again.
        ready: what its readiness probe says; without one, that it runs.
        started: what its startup probe says; without one, that it runs.
        identity: which run it is; empty before the first.
    """

    name: str
    image: str
    sidecar: bool = False
    state: State = Waiting("ContainerCreating")
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    started: bool = False
    identity: str = ""


@dataclass(frozen=True)
class PodView:
    """A pod as its containers leave it.

    Args:
        init: init containers, in order.
        containers: the others.
        pod_ip: its address; empty before it has one.
        host_ip: its node's address.
        start_time: when the node took it, in seconds since 1970.
        failed: reason and message when the node itself failed it.
        ended: it is being deleted and nothing of it will start again.
    """

    init: tuple[ContainerView, ...]
    containers: tuple[ContainerView, ...]
    pod_ip: str
    host_ip: str
    start_time: float
    failed: tuple[str, str] | None = None
    ended: bool = False


def timestamp(seconds: float) -> str:
    """A time as the API writes it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def initialized(view: PodView) -> bool:
    """Whether every init container has done its part: ended with 0, or, as a sidecar, started."""
    return all(
        c.started if c.sidecar else isinstance(c.state, Terminated) and c.state.exit_code == 0 for c in view.init
    )


def phase(view: PodView, restart_policy: str) -> str:
    """The pod's phase, by the rules of the kubelet's `getPhase`."""
    if view.failed is not None:
        return "Failed"
    if not initialized(view):
        broken = any(isinstance(c.state, Terminated) and c.state.exit_code != 0 for c in view.init)
        gone_for_good = restart_policy == "Never" or view.ended
        return "Failed" if broken and gone_for_good else "Pending"
    states = [c.state for c in view.containers]
    if any(isinstance(c.state, Waiting) and c.last is None for c in view.containers):
        return "Failed" if view.ended else "Pending"
    if any(isinstance(state, Running) for state in states):
        return "Running"
    final = [c.state if isinstance(c.state, Terminated) else c.last for c in view.containers]
    failed = any(end is None or end.exit_code != 0 for end in final)
    if view.ended or restart_policy == "Never":
        return "Failed" if failed else "Succeeded"
    if restart_policy == "OnFailure" and not failed:
        return "Succeeded"
    return "Running"


def is_terminal(status: Mapping[str, Any]) -> bool:
    """Whether a pod has ended for good."""
    return status.get("phase") in ("Succeeded", "Failed")


def pod_status(pod: Mapping[str, Any], view: PodView, now: float) -> Manifest:
    """The whole status of a pod.

    Args:
        pod: the pod as the API server has it, for its spec and for conditions that others wrote.
        view: its containers.
        now: seconds since 1970; becomes the transition time of a condition that changed.
    """
    spec, known = pod["spec"], pod.get("status") or {}
    now_phase = phase(view, spec.get("restartPolicy", "Always"))
    status: Manifest = {
        "phase": now_phase,
        "observedGeneration": pod["metadata"].get("generation", 1),
        "conditions": _conditions(pod, view, now_phase, now),
        "hostIP": view.host_ip,
        "hostIPs": [{"ip": view.host_ip}],
        "podIP": view.pod_ip or None,
        "podIPs": [{"ip": view.pod_ip}] if view.pod_ip else None,
        "startTime": timestamp(view.start_time),
        "containerStatuses": [_container_status(c) for c in view.containers],
        "initContainerStatuses": [_container_status(c) for c in view.init] or None,
        "qosClass": known.get("qosClass") or "BestEffort",
        "reason": view.failed[0] if view.failed else None,
        "message": view.failed[1] if view.failed else None,
    }
    return status


def _conditions(pod: Mapping[str, Any], view: PodView, now_phase: str, now: float) -> list[Manifest]:
    """The kubelet's conditions, with transition times kept where nothing changed, then everybody else's."""
    existing = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    wanted = _own_conditions(pod, view, now_phase, existing)
    result = []
    for kind in OWN_CONDITIONS:
        holds, reason, message = wanted[kind]
        text = "True" if holds else "False"
        before = existing.get(kind) or {}
        kept = before.get("lastTransitionTime") if before.get("status") == text else None
        condition: Manifest = {"type": kind, "status": text, "lastTransitionTime": kept or timestamp(now)}
        condition |= {key: value for key, value in (("reason", reason), ("message", message)) if value}
        result.append(condition)
    return result + [c for kind, c in existing.items() if kind not in OWN_CONDITIONS]


def _own_conditions(
    pod: Mapping[str, Any], view: PodView, now_phase: str, existing: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[bool, str, str]]:
    """Condition type to (holds, reason, message)."""
    unready = [c.name for c in (*[i for i in view.init if i.sidecar], *view.containers) if not c.ready]
    not_ready = f"containers with unready status: [{' '.join(unready)}]"
    if now_phase == "Succeeded":
        containers_ready = (False, "PodCompleted", "")
        init = (True, "PodCompleted", "")
    elif now_phase == "Failed":
        containers_ready = (False, "PodFailed", "")
        init = (initialized(view), "" if initialized(view) else "PodFailed", "")
    else:
        containers_ready = (not unready, "ContainersNotReady" if unready else "", not_ready if unready else "")
        waiting = [c.name for c in view.init if not initialized(replace(view, init=(c,)))]
        text = f"containers with incomplete status: [{' '.join(waiting)}]"
        init = (not waiting, "ContainersNotInitialized" if waiting else "", text if waiting else "")
    ready = containers_ready
    gates = [g["conditionType"] for g in pod["spec"].get("readinessGates") or ()]
    shut = [gate for gate in gates if existing.get(gate, {}).get("status") != "True"]
    if ready[0] and shut:
        ready = (
            False,
            "ReadinessGatesNotReady",
            f'corresponding condition of pod readiness gate "{shut[0]}" is not True',
        )
    return {
        "PodReadyToStartContainers": (bool(view.pod_ip) and now_phase not in ("Succeeded", "Failed"), "", ""),
        "Initialized": init,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": (True, "", ""),
    }


def _container_status(view: ContainerView) -> Manifest:
    """One entry of containerStatuses."""
    status: Manifest = {
        "name": view.name,
        "image": view.image,
        "imageID": f"plimsoll-sandbox://{view.image}" if view.identity else "",
        "ready": view.ready,
        "started": view.started,
        "restartCount": view.restarts,
        "state": state_manifest(view.state, view.identity),
        "lastState": state_manifest(view.last, view.identity) if view.last else {},
    }
    if view.identity:
        status["containerID"] = f"plimsoll-sandbox://{view.identity}"
    return status


def state_manifest(state: State, identity: str) -> Manifest:
    """A ContainerState of the API."""
    if isinstance(state, Waiting):
        return {"waiting": _present(reason=state.reason, message=state.message)}
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started_at)}}
    return {
        "terminated": {
            "exitCode": state.exit_code,
            "startedAt": timestamp(state.started_at),
            "finishedAt": timestamp(state.finished_at),
            **_present(reason=state.reason, message=state.message, signal=state.signal),
            **({"containerID": f"plimsoll-sandbox://{identity}"} if identity else {}),
        }
    }


def _present(**fields: Any) -> Manifest:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value}
