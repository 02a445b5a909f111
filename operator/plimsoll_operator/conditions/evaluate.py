"""From a situation to conditions, and from two sets of conditions to what people are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plimsoll_api.names import OPERATOR_CONDITIONS, ConditionType
from plimsoll_operator.conditions.checks import CHAINS
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.conditions.situation import Situation, Verdict

Conditions = list[dict[str, Any]]


@dataclass(frozen=True)
class Transition:
    """A condition that changed its status or its reason."""

    type: ConditionType
    verdict: Verdict

    @property
    def event_type(self) -> Literal["Normal", "Warning"]:
        """`Warning` when a person should look."""
        return "Normal" if (self.verdict.status == "True" or self.verdict.reason in _WANTED) else "Warning"


_WANTED = frozenset({Reason.COMPLETE, Reason.PAUSED, Reason.SCALED_TO_ZERO})
"""Reasons of a False condition that are as somebody wants it."""


def verdict(kind: ConditionType, situation: Situation) -> Verdict:
    """What one chain of checks says."""
    for check in CHAINS[kind]:
        found = check(situation)
        if found is not None:
            return found
    raise AssertionError(f"the last check of {kind} must decide")


def evaluate(situation: Situation, before: Sequence[Mapping[str, Any]], now: str) -> Conditions:
    """The operator's conditions.

    Args:
        situation: what is true.
        before: the conditions that the status has now, of any owner.
        now: RFC 3339 time that a condition which flips gets; one that does not keeps its own.
    """
    earlier = {str(condition["type"]): condition for condition in before}
    return [
        set_condition(earlier.get(kind), kind, verdict(kind, situation), situation.generation, now)
        for kind in OPERATOR_CONDITIONS
    ]


def set_condition(
    before: Mapping[str, Any] | None, kind: ConditionType, found: Verdict, generation: int, now: str
) -> dict[str, Any]:
    """One condition; `lastTransitionTime` moves only when the status flips."""
    flipped = before is None or before["status"] != found.status
    return {
        "type": str(kind),
        "status": found.status,
        "observedGeneration": generation,
        "lastTransitionTime": now if flipped or before is None else before["lastTransitionTime"],
        "reason": str(found.reason),
        "message": found.message,
    }


def transitions(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Transition]:
    """Conditions whose status or reason changed: what people are told. What begins unremarkable is not told, nor is one
    refusal told twice."""
    earlier = {condition["type"]: (condition["status"], condition["reason"]) for condition in before}
    changed: list[Transition] = []
    for condition in after:
        was = earlier.get(condition["type"])
        if was == (condition["status"], condition["reason"]):
            continue
        if was is None and condition["reason"] in (Reason.NO_REPLICA_READY, Reason.NOT_CREATED, Reason.NOT_ACCEPTED):
            continue
        found = Verdict(condition["status"], condition["reason"], condition["message"])
        if any(found == other.verdict for other in changed):
            continue
        changed.append(Transition(ConditionType(condition["type"]), found))
    return changed
