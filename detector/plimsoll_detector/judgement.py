"""One service, one tick: observation to diagnosis and decision. The detector's whole judgement as one pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from plimsoll_detector.decision import demand as demands
from plimsoll_detector.decision import load_line, ownership
from plimsoll_detector.decision.decide import Decision, decide
from plimsoll_detector.decision.demand import Demand
from plimsoll_detector.decision.ownership import Ownership
from plimsoll_detector.decision.policy import Policy
from plimsoll_detector.decision.state import DecisionState
from plimsoll_detector.diagnosis import Context, Diagnosis, DiagnosisState, diagnose
from plimsoll_detector.observation import Observation

MOST_ELAPSED_TICKS: Final = 4
"""Ticks that one tick's evidence may count for: what was so while nobody could look is not known."""


@dataclass(frozen=True)
class Memory:
    """What is remembered of one service between ticks."""

    diagnosis: DiagnosisState = field(default_factory=DiagnosisState)
    decision: DecisionState = field(default_factory=DecisionState)


@dataclass(frozen=True)
class Judgement:
    """What the detector says of one service.

    Attributes:
        observation: what it is based on.
        demand: replicas that the traffic needs; None when that cannot be known.
        diagnosis: what is happening.
        ownership: who set the present number of replicas.
        decision: what the number should be.
        memory: what to remember.
    """

    observation: Observation
    demand: Demand | None
    diagnosis: Diagnosis
    ownership: Ownership
    decision: Decision
    memory: Memory

    @property
    def load(self) -> float | None:
        """Demand, in replicas at their load line; None when no replica serves, for then nothing is measured."""
        return self.demand.total if self.demand is not None and self.observation.serving else None

    @property
    def utilization(self) -> float | None:
        """Demand per serving replica, as a share of the load line."""
        return None if self.load is None else self.load / self.observation.serving


def judge(
    current: int | None,
    observation: Observation,
    managed_fields: Iterable[Mapping[str, Any]],
    policy: Policy,
    memory: Memory,
    now: float,
) -> Judgement:
    """The judgement of one service.

    Args:
        current: replicas asked for (`spec.replicas`).
        observation: what is measured.
        managed_fields: the object's `metadata.managedFields`.
        policy: what decisions keep to.
        memory: what was remembered.
        now: seconds since the epoch.
    """
    remembered = load_line.followed(memory.decision, policy.load_line, observation.outdated)
    demand = _demand(observation, policy, remembered)
    diagnosis, diagnosis_state = diagnose(Context(observation, demand, current or 0), memory.diagnosis, now)
    patience = max(policy.scale_in_stabilization, policy.window)
    owner = ownership.foreign_manager(managed_fields)
    owned, ownership_state = ownership.judge(owner, current or 0, remembered.ownership, remembered.acted, patience, now)
    before = replace(remembered, ownership=ownership_state)
    decision, after = decide(current, observation, demand, diagnosis.kind, owned, policy, before, now)
    if demand is not None and policy.load_line is not None:
        after = _corrected(after, before, observation, policy, diagnosis, now)
    return Judgement(observation, demand, diagnosis, owned, decision, Memory(diagnosis_state, after))


def _demand(observation: Observation, policy: Policy, state: DecisionState) -> Demand | None:
    """What an observation asks for; by the lower load line while replicas of two configurations serve."""
    if not observation.quality.usable or policy.load_line is None:
        return None
    by_line = demands.assess(observation, policy.load_line, state.line_ratio, state.startup)
    if state.former is None:
        return by_line
    by_former = demands.assess(observation, state.former.line, state.former.ratio, state.startup)
    return max(by_line, by_former, key=lambda demand: demand.total)


def _corrected(
    after: DecisionState,
    before: DecisionState,
    observation: Observation,
    policy: Policy,
    diagnosis: Diagnosis,
    now: float,
) -> DecisionState:
    """The state with the load line corrected by what this window showed."""
    assert policy.load_line is not None
    # The window must show the present replicas only, and a percentile over it no start-up of theirs: two windows.
    same = after.changed_at is not None and now - after.changed_at >= 2 * policy.window
    ratio = load_line.next_ratio(
        after.line_ratio,
        observation,
        policy.load_line,
        diagnosis.kind,
        settled=same and after.pending_since is None and not observation.outdated,
        elapsed=min(now - before.last_tick, MOST_ELAPSED_TICKS * policy.interval)
        if before.last_tick is not None
        else 0.0,
    )
    return replace(after, line_ratio=ratio)
