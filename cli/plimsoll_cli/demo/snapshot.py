"""One look at a running service: what the live view shows and the report plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plimsoll_api.v1alpha1 import LLMServiceStatus, parse_duration


@dataclass(frozen=True)
class Snapshot:
    """State of one service at one moment. Times are seconds, rates per second; None means not known."""

    at: float
    """Seconds since the demo's traffic began (negative before)."""
    wanted: int | None
    """Replicas asked for through `/scale`."""
    ready: int
    """Pods that serve."""
    pending: int
    """Pods that exist, are not leaving and do not serve yet."""
    draining: int
    """Pods that are leaving and may still finish streams."""
    waiting: float | None
    running: float | None
    requests_per_second: float | None
    load_line: float | None
    """Requests per second one replica carries within the objectives, as recommended."""
    ttft: float | None
    tpot: float | None
    attainment: float | None
    diagnosis: str
    reason: str
    """Why the replicas are what they are, in the decision's own words."""


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)


def pod_counts(pods: Sequence[Mapping[str, Any]]) -> tuple[int, int, int]:
    """(ready, pending, draining) of a list of Pod objects."""
    ready = pending = draining = 0
    for pod in pods:
        conditions = pod.get("status", {}).get("conditions") or []
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if pod["metadata"].get("deletionTimestamp"):
            draining += 1
        elif is_ready:
            ready += 1
        elif pod.get("status", {}).get("phase") in (None, "Pending", "Running"):
            pending += 1
    return ready, pending, draining


def take(at: float, service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Snapshot:
    """The snapshot of an LLMService object and its pods."""
    status = LLMServiceStatus.model_validate(service.get("status") or {})
    observed, decision, predicted = status.observed, status.decision, status.recommendation
    ready, pending, draining = pod_counts(pods)
    return Snapshot(
        at=at,
        wanted=service.get("spec", {}).get("replicas"),
        ready=ready,
        pending=pending,
        draining=draining,
        waiting=_number(observed.waiting) if observed else None,
        running=_number(observed.running) if observed else None,
        requests_per_second=_number(observed.requests_per_second) if observed else None,
        load_line=_number(predicted.predicted.load_line_requests_per_second) if predicted else None,
        ttft=_seconds(observed.ttft) if observed else None,
        tpot=_seconds(observed.tpot) if observed else None,
        attainment=_number(observed.attainment) if observed else None,
        diagnosis=status.diagnosis.kind.value if status.diagnosis else "-",
        reason=(decision.message or decision.reason) if decision else "waiting for the first decision",
    )
