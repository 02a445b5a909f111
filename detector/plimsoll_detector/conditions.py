"""The detector's conditions: one chain of pure checks for each, so that every reason stands in one place.

MetricsAvailable: is there anything to decide on. ScalingActive: are decisions acted on. ObjectivesMet: do users see
what they should. Degraded: is a replica out of line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from plimsoll_api.names import ConditionType
from plimsoll_api.v1alpha1 import DiagnosisKind, ScalingMode
from plimsoll_detector.decision.decide import Reason
from plimsoll_detector.decision.load_line import MIN_REQUESTS
from plimsoll_detector.decision.policy import Policy
from plimsoll_detector.features import Objectives
from plimsoll_detector.judgement import Judgement
from plimsoll_detector.service import timestamp
from plimsoll_detector.wording import seconds

Status = Literal["True", "False", "Unknown"]

_INACTIVE: Final = frozenset(
    {
        Reason.MANUAL,
        Reason.PAUSED,
        Reason.AT_ZERO,
        Reason.CONTENDED,
        Reason.NOT_SEEDED,
        Reason.NO_LOAD_LINE,
        Reason.NO_READY_REPLICAS,
        Reason.BLIND,
    }
)
"""Reasons of a decision for which nothing scales, whatever the load."""

_REASON_OF_LATENCY: Final = {"ttft": "TTFTAboveTarget", "tpot": "TPOTAboveTarget", "e2e": "E2EAboveTarget"}


@dataclass(frozen=True)
class Verdict:
    """One condition without its times."""

    status: Status
    reason: str
    message: str


def metrics_available(judgement: Judgement) -> Verdict:
    """Whether there is fresh, complete data of the replicas."""
    observation, quality = judgement.observation, judgement.observation.quality
    if quality.problem is not None:
        return Verdict("False", quality.problem.value, f"{quality.message}; replicas are held")
    if observation.measured == 0:
        return Verdict("Unknown", "NoReadyReplicas", "no replica has been ready long enough to be measured")
    if quality.missing:
        message = f"{len(quality.missing)} of {observation.serving} replicas have no fresh data; none is removed"
        return Verdict("True", "Incomplete", message)
    return Verdict("True", "Fresh", "every replica that should have data has fresh and complete data")


def scaling_active(judgement: Judgement, policy: Policy) -> Verdict:
    """Whether decisions are made and acted on."""
    decision = judgement.decision
    if decision.reason in _INACTIVE:
        return Verdict("False", decision.reason.value, decision.message)
    if policy.mode is ScalingMode.RECOMMEND:
        message = "scaling.mode is Recommend: decisions are recorded in status.decision and not acted on"
        return Verdict("False", "RecommendMode", message)
    if policy.scale_to_zero_after is not None and not policy.wake_signal:
        message = "decisions are acted on, but the last replica is kept: nothing here would wake a stopped service"
        return Verdict("True", "KeepsLastReplica", message)
    return Verdict("True", "Active", "decisions are acted on")


def objectives_met(judgement: Judgement, objectives: Objectives, before: Mapping[str, Any] | None) -> Verdict:
    """Whether the latencies, at the objectives' percentile, are within their targets."""
    observation = judgement.observation
    if not observation.quality.usable:
        return Verdict("Unknown", "MetricsUnavailable", "there is nothing to hold the objectives against")
    if observation.requests <= 0:
        return Verdict("Unknown", "NoTraffic", "no request in the window")
    if observation.requests < MIN_REQUESTS:
        if before is not None and before.get("status") in ("True", "False"):
            return Verdict(before["status"], before["reason"], before["message"])
        return Verdict("Unknown", "FewRequests", f"fewer than {MIN_REQUESTS} requests in the window")
    percentile = f"p{objectives.percentile * 100:.0f}"
    judged = {name: latency for name, latency in observation.latencies.items() if latency.target is not None}
    texts = [
        f"{name} {percentile} {seconds(one.value)}, target {seconds(one.target or 0.0)}" for name, one in judged.items()
    ]
    missed = [name for name, latency in judged.items() if latency.missed]
    if missed:
        return Verdict("False", _REASON_OF_LATENCY[missed[0]], "; ".join(texts))
    return Verdict("True", "TargetsMet", "; ".join(texts))


def degraded(judgement: Judgement) -> Verdict:
    """Whether a replica is out of line with its peers, or stuck."""
    diagnosis = judgement.diagnosis
    if diagnosis.kind in (DiagnosisKind.DEGRADED, DiagnosisKind.STALLED):
        return Verdict("True", diagnosis.kind.value, diagnosis.message)
    if diagnosis.kind is DiagnosisKind.BLIND:
        return Verdict("Unknown", "MetricsUnavailable", "there is nothing to compare the replicas by")
    return Verdict("False", "ReplicasAlike", "no replica is out of line with its peers")


def evaluate(
    judgement: Judgement,
    policy: Policy,
    objectives: Objectives,
    before: Iterable[Mapping[str, Any]],
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """The detector's conditions as the API has them; a condition keeps its time for as long as its status holds.

    Args:
        judgement: what to report.
        policy: of the service.
        objectives: of the service.
        before: the object's conditions as read.
        generation: of the spec the judgement is about.
        now: seconds since the epoch.
    """
    known = {condition.get("type"): condition for condition in before}
    verdicts = {
        ConditionType.METRICS_AVAILABLE: metrics_available(judgement),
        ConditionType.SCALING_ACTIVE: scaling_active(judgement, policy),
        ConditionType.OBJECTIVES_MET: objectives_met(judgement, objectives, known.get(ConditionType.OBJECTIVES_MET)),
        ConditionType.DEGRADED: degraded(judgement),
    }
    return [_condition(kind, verdict, known.get(kind.value), generation, now) for kind, verdict in verdicts.items()]


def _condition(
    kind: ConditionType, verdict: Verdict, before: Mapping[str, Any] | None, generation: int, now: float
) -> dict[str, Any]:
    held = before is not None and before.get("status") == verdict.status
    return {
        "type": kind.value,
        "status": verdict.status,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if held and before is not None else timestamp(now),
        "reason": verdict.reason,
        "message": verdict.message,
    }
