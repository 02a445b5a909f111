"""When a probe runs and what its results mean: a state machine that is told the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["startup", "readiness", "liveness"]


@dataclass(frozen=True)
class ProbeSpec:
    """A probe's numbers with the API's defaults (core/v1 Probe).

    Args:
        action: the handler: `httpGet`, `tcpSocket` or `exec` with its fields.
        initial_delay: seconds after the container's start.
        period: seconds between the beginnings of two tries.
        timeout: seconds a try may take.
        success_threshold: successes in a row that count as success.
        failure_threshold: failures in a row that count as failure.
        grace: the probe's own terminationGracePeriodSeconds; None takes the pod's.
    """

    action: dict[str, Any]
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace: float | None = None

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> ProbeSpec:
        """The probe of a container's manifest."""
        grace = manifest.get("terminationGracePeriodSeconds")
        return cls(
            action={key: manifest[key] for key in ("httpGet", "tcpSocket", "exec") if key in manifest},
            initial_delay=float(manifest.get("initialDelaySeconds") or 0),
            period=float(manifest.get("periodSeconds") or 10),
            timeout=float(manifest.get("timeoutSeconds") or 1),
            success_threshold=int(manifest.get("successThreshold") or 1),
            failure_threshold=int(manifest.get("failureThreshold") or 3),
            grace=None if grace is None else float(grace),
        )


@dataclass(frozen=True)
class ProbeState:
    """Where a probe stands.

    Args:
        verdict: what holds now; None as long as nothing is known.
        streak: length of the run of equal results that are the newest.
        last: the newest result; None before the first.
        next_at: when the next try is due, in the clock's seconds.
    """

    verdict: bool | None
    streak: int
    last: bool | None
    next_at: float


def begin(kind: Kind, spec: ProbeSpec, started_at: float) -> ProbeState:
    """The state at a container's start: not ready, not started, but alive until shown otherwise."""
    verdict = {"startup": None, "readiness": False, "liveness": True}[kind]
    return ProbeState(verdict, 0, None, started_at + spec.initial_delay)


def observe(spec: ProbeSpec, state: ProbeState, succeeded: bool, now: float) -> ProbeState:
    """The state after a try that was begun at `now`."""
    streak = state.streak + 1 if state.last is succeeded else 1
    threshold = spec.success_threshold if succeeded else spec.failure_threshold
    verdict = succeeded if streak >= threshold else state.verdict
    return replace(state, verdict=verdict, streak=streak, last=succeeded, next_at=now + spec.period)
