"""The detector's part of an LLMService's status: from a judgement, compared with what is there, read back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from plimsoll_api.names import DETECTOR_CONDITIONS
from plimsoll_api.v1alpha1 import (
    HISTORY_LENGTH,
    Contribution,
    DecisionStatus,
    DiagnosisKind,
    DiagnosisStatus,
    HistoryEntry,
    ObservedStatus,
    ScalingMode,
    format_duration,
)
from plimsoll_detector import conditions
from plimsoll_detector.decision.decide import Reason
from plimsoll_detector.decision.load_line import RATIO_BOUNDS
from plimsoll_detector.decision.ownership import (
    AUTOMATIC_MANAGERS,
    STRIKES,
    Acted,
    OwnershipState,
    Writer,
    foreign_manager,
)
from plimsoll_detector.decision.policy import LoadLine
from plimsoll_detector.decision.state import DecisionState
from plimsoll_detector.diagnosis import Diagnosis, DiagnosisState
from plimsoll_detector.judgement import Judgement, Memory
from plimsoll_detector.observation import Observation
from plimsoll_detector.service import Service, seconds_of, timestamp
from plimsoll_detector.wording import significant

REFRESH_INTERVALS: Final = 2.0
"""Decision intervals between two writes that differ in measured numbers only (30 s at the default interval); a change
of verdict is written at once."""

MOST_MESSAGE: Final = 1024
"""Characters of a message: every watcher of the object receives them with every change."""

_PREDICTION_BAND: Final = (0.7, 1.1)
"""Shares of the load line between which a measured latency can be held against the one predicted at the line."""

Status = dict[str, Any]


def build(service: Service, judgement: Judgement, acted: bool, now: float) -> Status:
    """The detector's whole part of the status.

    Args:
        service: the object the judgement is about.
        judgement: what to report.
        acted: whether the decision has just been written to `/scale`.
        now: seconds since the epoch.
    """
    before = service.status
    status: Status = {
        "conditions": conditions.evaluate(
            judgement,
            service.policy,
            service.objectives,
            before.get("conditions") or (),
            service.generation,
            now,
        ),
        "diagnosis": _dump(_diagnosis(judgement.diagnosis)),
        "history": _history(before.get("history") or (), judgement, acted, now),
    }
    if observed := _dump(_observed(judgement, service.policy.load_line)):
        # Applied empty, an object that had fields before becomes null, which the schema refuses.
        status["observed"] = observed
    if service.policy.mode is not ScalingMode.MANUAL:
        status["decision"] = _decision(before.get("decision") or {}, judgement, now)
    return status


def write_needed(
    before: Mapping[str, Any], after: Status, last_write: float | None, now: float, *, interval: float
) -> bool:
    """Whether a status is worth a write: its verdicts changed, or its numbers did and the last write is a while ago.

    Args:
        before: the whole status as read.
        after: the detector's part as it should be.
        last_write: when this process last wrote it; None if never.
        now: seconds since the epoch.
        interval: seconds between two decisions.
    """
    if _verdicts(before) != _verdicts(after):
        return True
    stale = last_write is None or now - last_write >= REFRESH_INTERVALS * interval
    return stale and any(_comparable(before, field) != _comparable(after, field) for field in after)


def restore(service: Service) -> Memory:
    """What a new process remembers of a service: what the last one wrote into its status."""
    status = service.status
    diagnosis = status.get("diagnosis") or {}
    remembered = Memory()
    if diagnosis.get("kind"):
        kind, since = DiagnosisKind(diagnosis["kind"]), seconds_of(diagnosis["since"])
        told = Diagnosis(kind, since, diagnosis.get("message", ""), tuple(diagnosis.get("pods", ())))
        remembered = replace(remembered, diagnosis=DiagnosisState(kind, since, kind, since, last=told))
    history = status.get("history") or ()
    acted = Acted(seconds_of(history[0]["at"]), int(history[0]["after"])) if history else None
    low, high = RATIO_BOUNDS
    ratio = min(max(float((status.get("observed") or {}).get("loadLineRatio") or 1.0), low), high)
    state = DecisionState(acted=acted, line_ratio=ratio, ownership=_restored_ownership(service, acted))
    return replace(remembered, decision=state)


def _restored_ownership(service: Service, acted: Acted | None) -> OwnershipState:
    """The foreign write that the last process had seen, so that it does not count as a new one."""
    decision = service.status.get("decision") or {}
    manager = foreign_manager(service.manifest["metadata"].get("managedFields") or ())
    if manager is None or service.current is None or decision.get("current") != service.current:
        return OwnershipState()
    # What the decision before was not held for is over; it was after our own last write, or we would own the field.
    since = acted.at if acted is not None else 0.0
    reason = decision.get("reason")
    yielded = reason in (Reason.CONTENDED, Reason.OBEYED)
    if yielded:
        since = max(seconds_of(decision["at"]), since)
    by_strikes = reason == Reason.CONTENDED and manager not in AUTOMATIC_MANAGERS
    woke = acted is not None and acted.replicas == 0 and not yielded
    return OwnershipState(Writer(manager, service.current, since, woke), (since,) * STRIKES if by_strikes else ())


def _observed(judgement: Judgement, line: LoadLine | None) -> ObservedStatus:
    """What is measured, with as many digits as it is good for; nothing at all when it is not known."""
    observation = judgement.observation
    ratio = judgement.memory.decision.line_ratio
    measured_line = None if line is None else significant(line.requests_per_second * ratio)
    measured_ratio = None if line is None else _number(ratio, digits=3)
    if not observation.quality.usable or observation.measured == 0:
        return ObservedStatus(load_line=measured_line, load_line_ratio=measured_ratio)
    latencies = observation.latencies
    return ObservedStatus(
        requests_per_second=significant(observation.arrivals),
        input_tokens_mean=_number(observation.input_tokens_mean),
        output_tokens_mean=_number(observation.output_tokens_mean),
        running=significant(observation.running),
        waiting=significant(observation.waiting),
        ttft=_duration(latencies["ttft"].value) if "ttft" in latencies else None,
        tpot=_duration(latencies["tpot"].value) if "tpot" in latencies else None,
        attainment=_number(observation.attainment, digits=3),
        load_line=measured_line,
        load_line_ratio=measured_ratio,
        prediction_error=_number(_prediction_error(observation, judgement.utilization, line)),
    )


def _prediction_error(observation: Observation, utilization: float | None, line: LoadLine | None) -> float | None:
    """|predicted - measured| / measured time per output token, near the load line, where the prediction was made."""
    measured = observation.latencies.get("tpot")
    low, high = _PREDICTION_BAND
    if (
        line is None
        or observation.outdated
        or measured is None
        or measured.value <= 0
        or utilization is None
        or not low <= utilization <= high
    ):
        return None
    return abs(line.tpot - measured.value) / measured.value


def _diagnosis(diagnosis: Diagnosis) -> DiagnosisStatus:
    contributions = [
        Contribution(
            signal=one.signal,
            value=one.value,
            reference=f"{one.reference} ({one.push:+.2f})" if one.push else one.reference,
        )
        for one in diagnosis.contributions
    ]
    return DiagnosisStatus(
        kind=diagnosis.kind,
        since=timestamp(diagnosis.since),
        message=diagnosis.message[:MOST_MESSAGE],
        pods=list(diagnosis.pods),
        contributions=contributions,
    )


def _decision(before: Mapping[str, Any], judgement: Judgement, now: float) -> Status:
    """The decision; its time is when it last became a different one."""
    made = judgement.decision
    decision = DecisionStatus(
        current=made.current,
        desired=made.desired,
        bounded=made.bounded,
        reason=made.reason.value,
        message=made.message[:MOST_MESSAGE],
        at=timestamp(now),
    )
    dumped = _dump(decision)
    same = all(before.get(field) == dumped[field] for field in ("current", "bounded", "reason"))
    return {**dumped, "at": before["at"]} if same and before.get("at") else dumped


def _history(before: Sequence[Mapping[str, Any]], judgement: Judgement, acted: bool, now: float) -> list[Status]:
    """The changes made, newest first."""
    kept = [dict(entry) for entry in before]
    if acted:
        made = judgement.decision
        entry = HistoryEntry(
            at=timestamp(now),
            before=made.current,
            after=made.bounded,
            reason=made.reason.value,
            message=made.message[:MOST_MESSAGE],
        )
        kept.insert(0, _dump(entry))
    return kept[:HISTORY_LENGTH]


def _verdicts(status: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a status is a statement and not a measured number."""
    ours = {kind.value for kind in DETECTOR_CONDITIONS}
    stated = sorted(
        (str(one.get("type")), str(one.get("status")), str(one.get("reason")), int(one.get("observedGeneration") or 0))
        for one in status.get("conditions") or ()
        if one.get("type") in ours
    )
    diagnosis, decision = status.get("diagnosis") or {}, status.get("decision") or {}
    return (
        stated,
        diagnosis.get("kind"),
        list(diagnosis.get("pods") or ()),
        tuple(decision.get(field) for field in ("current", "bounded", "reason")),
        list(status.get("history") or ()),
    )


def _comparable(status: Mapping[str, Any], field: str) -> Any:
    """One field of a status as both sides write it."""
    value = status.get(field)
    if field == "conditions":
        ours = {kind.value for kind in DETECTOR_CONDITIONS}
        return {
            one["type"]: (one["status"], one["reason"], one["message"]) for one in value or () if one["type"] in ours
        }
    return value or None


def _number(value: float | None, digits: int = 2) -> str | None:
    return None if value is None else significant(value, digits)


def _duration(value: float) -> str:
    """A latency with two digits, in the API's spelling; not below the API's resolution of a millisecond."""
    return format_duration(max(float(significant(value)), 0.001))


def _dump(model: Any) -> Status:
    """A model as the API has it: camelCase, without what is absent; an empty list says nothing either."""
    dumped: Status = model.model_dump(by_alias=True, exclude_none=True, mode="json")
    return {name: value for name, value in dumped.items() if value != []}
