"""`decide`: how many replicas, and why. A function over frozen data.

Two ideas carry it.

Flow and backlog. While replicas start, requests pile up, and every view that counts what has piled up grows although
what arrives does not. So while replicas are coming, and for one window after they came, only the flow may ask for
more than there are; the backlog may keep what there is. Pending replicas are supply because `current` is what was
asked for, not what serves.

A dead band. Replicas are added above `SCALE_OUT_UTILIZATION` of the load line and removed only if the fewer would stay
under `SCALE_IN_UTILIZATION`, so no decision is the next one's reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from plimsoll_api.v1alpha1 import DiagnosisKind, ScalingMode, format_decimal, format_duration
from plimsoll_detector.decision.demand import Demand
from plimsoll_detector.decision.ownership import Ownership, Standing
from plimsoll_detector.decision.policy import (
    MOST_ADDED_AT_LEAST,
    MOST_REMOVED_SHARE,
    SCALE_IN_UTILIZATION,
    SCALE_OUT_UTILIZATION,
    Policy,
)
from plimsoll_detector.decision.stabilization import TOLERATED_GAP_INTERVALS, Recommendations
from plimsoll_detector.decision.state import DecisionState
from plimsoll_detector.observation import Observation
from plimsoll_detector.wording import replicas, significant

_ROUNDING: Final = 1e-9
"""Demand of exactly N replicas must not become N + 1 through a binary fraction."""


class Reason(StrEnum):
    """Why the decision is what it is."""

    SCALE_OUT = "ScaleOut"
    SCALE_IN = "ScaleIn"
    SCALE_TO_ZERO = "ScaleToZero"
    WITHIN_BAND = "WithinBand"
    NEED_NOT_SETTLED = "NeedNotSettled"
    SURPLUS_NOT_SETTLED = "SurplusNotSettled"
    WAITING_FOR_REPLICAS = "WaitingForReplicas"
    AT_MAXIMUM = "AtMaximum"
    AT_MINIMUM = "AtMinimum"
    OVER_BUDGET = "OverBudget"
    OUT_OF_BOUNDS = "OutOfBounds"
    FIRST_WINDOW = "FirstWindow"
    NOT_SEEDED = "NotSeeded"
    AT_ZERO = "ScaledToZero"
    PAUSED = "Paused"
    MANUAL = "ManualMode"
    CONTENDED = "Contended"
    OBEYED = "SetBySomebodyElse"
    NO_LOAD_LINE = "NoLoadLine"
    NO_READY_REPLICAS = "NoReadyReplicas"
    BLIND = "Blind"
    STALLED = "Stalled"
    DEGRADED = "Degraded"
    INCOMPLETE = "IncompleteData"
    ROLLING_OUT = "RollingOut"
    PRICE_UNKNOWN = "PriceUnknown"


@dataclass(frozen=True)
class Decision:
    """What should be, and why.

    Attributes:
        current: replicas asked for now.
        desired: what the load asks for.
        bounded: what bounds, budget and pace allow now.
        reason: why `bounded` is what it is.
        message: the same with the numbers, in one line.
    """

    current: int
    desired: int
    bounded: int
    reason: Reason
    message: str

    @property
    def changes(self) -> bool:
        """Whether the number of replicas is to change."""
        return self.bounded != self.current


def decide(
    current: int | None,
    observation: Observation,
    demand: Demand | None,
    kind: DiagnosisKind,
    ownership: Ownership,
    policy: Policy,
    state: DecisionState,
    now: float,
) -> tuple[Decision, DecisionState]:
    """The replicas that a service should ask for, and what to remember.

    Args:
        current: replicas asked for now (`spec.replicas`); None before anybody asked for any.
        observation: what is measured.
        demand: what it asks for; None when the observation is not usable or there is no load line.
        kind: the diagnosis.
        ownership: who set `current`.
        policy: what to keep to.
        state: what was remembered.
        now: seconds since the epoch.
    """
    if current is None:
        return Decision(0, 0, 0, Reason.NOT_SEEDED, "spec.replicas is not set yet: the operator seeds it"), state
    unknown = _nothing_to_go_by(current, observation, kind, policy)
    if unknown is None and demand is not None:
        state = _watched(current, observation, policy, state, now)
    settled = _not_ours(current, ownership, policy, state) or _out_of_bounds(current, policy)
    if settled is not None:
        return settled, state
    if unknown is not None or demand is None:
        return unknown or _hold(current, Reason.NO_LOAD_LINE, "there is no load line to hold the demand against"), state
    state = _asked(current, observation, demand, policy, state, now)
    if ownership.writer is not None and ownership.standing is Standing.OBEYED:
        patience = format_duration(_patience(policy))
        message = f"{ownership.writer.manager} set {replicas(current)}: left alone for {patience}"
        return _hold(current, Reason.OBEYED, message), state
    return _by_demand(current, observation, demand, kind, policy, state, now), state


def _hold(current: int, reason: Reason, message: str, desired: int | None = None) -> Decision:
    return Decision(current, current if desired is None else desired, current, reason, message)


def _not_ours(current: int, ownership: Ownership, policy: Policy, state: DecisionState) -> Decision | None:
    """Why the number is not this detector's to set, if it is not."""
    if policy.mode is ScalingMode.MANUAL:
        return _hold(current, Reason.MANUAL, "scaling.mode is Manual: something else owns the replicas")
    if policy.paused:
        return _hold(current, Reason.PAUSED, "spec.paused is true: the replicas stay as they are")
    # Nobody has set a number since this detector's own 0: the bounds bring the service back.
    stopped_here = ownership.writer is None and state.acted is not None and state.acted.replicas == 0
    if current == 0 and not policy.may_stop and not stopped_here:
        return _hold(current, Reason.AT_ZERO, "somebody set 0 replicas: nothing scales until they set 1 or more")
    writer = ownership.writer
    if writer is not None and ownership.standing is Standing.CONTENDED:
        message = f"{writer.manager} also scales this service: remove it, or set scaling.mode to Manual"
        return _hold(current, Reason.CONTENDED, message)
    return None


def _out_of_bounds(current: int, policy: Policy) -> Decision | None:
    """The move into the bounds; it needs no measurement."""
    if current == 0 and policy.may_stop:
        return None
    highest, why = _ceiling(policy)
    if current > highest:
        return Decision(
            current, highest, highest, Reason.OUT_OF_BOUNDS, f"{replicas(current)} asked for, more than {why}"
        )
    lowest = min(policy.floor, highest)
    if current < lowest:
        message = f"{replicas(current)} asked for, fewer than minReplicas {policy.min_replicas}"
        if current == 0 and policy.min_replicas == 0:
            message = "0 replicas asked for, and scaleToZeroAfter no longer stops the service"
        return Decision(current, lowest, lowest, Reason.OUT_OF_BOUNDS, message)
    return None


def _ceiling(policy: Policy) -> tuple[int, str]:
    """Most replicas allowed, and what allows no more: a budget below minReplicas wins, for it is money.

    One replica is kept whatever it costs: a budget that pays for none is a mistake to be told of, not a way to stop.
    """
    affordable, counted = policy.affordable, policy.max_count_replicas
    if counted is not None and counted < policy.max_replicas and (affordable is None or counted < affordable):
        most = max(counted, 1)
        return most, f"maxCount of the accelerator has GPUs for: {most}"
    if affordable is not None and affordable < 1:
        return 1, f"one, although budgetPerHour {format_decimal(policy.budget_per_hour or 0.0, 2)} pays for none"
    if affordable is not None and affordable < policy.max_replicas:
        price = f"{format_decimal(policy.replica_cost or 0.0, 2)} per replica and hour"
        budget = f"budgetPerHour {format_decimal(policy.budget_per_hour or 0.0, 2)}"
        return affordable, f"{budget} pays for: {affordable} at {price}"
    return policy.max_replicas, f"maxReplicas {policy.max_replicas}"


def _nothing_to_go_by(current: int, observation: Observation, kind: DiagnosisKind, policy: Policy) -> Decision | None:
    """Why there is nothing to decide on, if there is not."""
    if kind is DiagnosisKind.BLIND or not observation.quality.usable:
        message = observation.quality.message or "the last measurements could not be used"
        return _hold(current, Reason.BLIND, f"holding {current}: {message}")
    if policy.load_line is None:
        return _hold(current, Reason.NO_LOAD_LINE, "there is no recommendation yet, hence no load line")
    if observation.serving == 0:
        message = f"no replica is ready ({observation.starting} are starting): nothing to measure"
        return _hold(current, Reason.NO_READY_REPLICAS, message)
    if observation.measured == 0:
        return _hold(current, Reason.NO_READY_REPLICAS, "the replicas have just become ready: not measured yet")
    return None


def _watched(current: int, observation: Observation, policy: Policy, state: DecisionState, now: float) -> DecisionState:
    """The state with what this tick shows in it, whoever sets the replicas."""
    gap = state.last_tick is not None and now - state.last_tick > TOLERATED_GAP_INTERVALS * policy.interval
    pending_since = state.pending_since if state.pending_since is not None else now
    # What was while nobody could look, asleep or blind, was not seen to be idle.
    idle_since = state.idle_since if state.idle_since is not None and not gap else now
    changed = observation.serving != state.serving
    complete = observation.serving >= current
    asked_more_at = now if state.asked is not None and current > state.asked else state.asked_more_at
    came = complete and changed and state.asked_more_at is not None
    startup = now - state.asked_more_at if came and state.asked_more_at is not None else state.startup
    return replace(
        state,
        first_seen=now if state.first_seen is None else state.first_seen,
        last_tick=now,
        serving=observation.serving,
        changed_at=now if changed else state.changed_at,
        pending_since=None if complete else pending_since,
        asked=current,
        asked_more_at=None if complete else asked_more_at,
        startup=min(startup, policy.startup_timeout),
        idle_since=None if observation.busy else idle_since,
    )


def _asked(
    current: int, observation: Observation, demand: Demand, policy: Policy, state: DecisionState, now: float
) -> DecisionState:
    """The state with what this tick asks for in it."""
    out, into = state.recommendations.out, state.recommendations.into
    wanted_out = _out_target(current, demand, policy, state, now)
    wanted_in = _replicas_for(demand.total, SCALE_IN_UTILIZATION)
    if observation.outdated:
        wanted_in = max(wanted_in, current)  # a surplus by a load line that is not theirs is none
    recommendations = Recommendations(
        out.add(now, wanted_out, min, policy.interval, policy.scale_out_stabilization),
        into.add(now, wanted_in, max, policy.interval, _patience(policy)),
    )
    return replace(state, recommendations=recommendations)


def _patience(policy: Policy) -> float:
    """Seconds that a surplus must have lasted: one window at the least, for that is what a measurement is of."""
    return max(policy.scale_in_stabilization, policy.window)


def _replicas_for(need: float, utilization: float) -> int:
    """Whole replicas that carry a need at a utilisation of their load line; one at least."""
    return max(math.ceil(need / utilization - _ROUNDING), 1)


def _out_target(current: int, demand: Demand, policy: Policy, state: DecisionState, now: float) -> int:
    """Replicas that scaling out asks for: by the flow alone while earlier replicas are coming."""
    everything = _replicas_for(demand.total, SCALE_OUT_UTILIZATION)
    if not _settled(policy, state, now):
        return max(_replicas_for(demand.flow, SCALE_OUT_UTILIZATION), min(everything, current))
    return everything


def _settled(policy: Policy, state: DecisionState, now: float) -> bool:
    """Whether the replicas asked for serve, and have for as long as the measurements show."""
    coming = state.pending_since is not None and now - state.pending_since < policy.startup_timeout
    return not coming and (state.changed_at is None or now - state.changed_at >= policy.window)


def _by_demand(
    current: int,
    observation: Observation,
    demand: Demand,
    kind: DiagnosisKind,
    policy: Policy,
    state: DecisionState,
    now: float,
) -> Decision:
    """The decision when everything needed for one is there."""
    if _may_stop(policy, observation, state, now):
        message = f"no request for {format_duration(policy.scale_to_zero_after or 0.0)}"
        return Decision(current, 0, 0, Reason.SCALE_TO_ZERO, message)
    flow_only = _replicas_for(demand.flow, SCALE_OUT_UTILIZATION)
    out = flow_only if _sick(kind) else _out_target(current, demand, policy, state, now)
    into = _replicas_for(demand.total, SCALE_IN_UTILIZATION)
    if out > current:
        return _scale_out(current, out, demand, policy, state, now)
    into = max(into, out)
    if _sick(kind):
        message = f"holding {current}: a replica is {kind.value.lower()}, which more or fewer would not mend"
        return _hold(current, Reason.STALLED if kind is DiagnosisKind.STALLED else Reason.DEGRADED, message)
    if into < current:
        return _scale_in(current, into, observation, demand, policy, state, now)
    if state.pending_since is not None:
        message = f"{_load(demand)}; {observation.serving} of {current} replicas serve so far"
        return _hold(current, Reason.WAITING_FOR_REPLICAS, message)
    return _hold(current, Reason.WITHIN_BAND, f"{_load(demand)}; right for {replicas(current)}")


def _sick(kind: DiagnosisKind) -> bool:
    """Whether a replica is at fault: then the fleet is not scaled for it, only for what arrives."""
    return kind in (DiagnosisKind.STALLED, DiagnosisKind.DEGRADED)


def _may_stop(policy: Policy, observation: Observation, state: DecisionState, now: float) -> bool:
    """Whether the service may go to 0 replicas."""
    after = policy.scale_to_zero_after
    if not policy.may_stop or after is None or state.idle_since is None or observation.quality.coverage < 1.0:
        return False
    return now - state.idle_since >= max(after, policy.window)


def _load(demand: Demand) -> str:
    """The demand in words: `load of 2.3 replicas at their load line (1.9 requests/s each), led by arrivals`."""
    if demand.total == 0:
        return "no load"
    return (
        f"load of {significant(demand.total)} replicas at their load line "
        f"({significant(demand.line)} requests/s each), led by {demand.leading}"
    )


def _scale_out(current: int, wanted: int, demand: Demand, policy: Policy, state: DecisionState, now: float) -> Decision:
    """More replicas: as many as have been asked for throughout the window, within bounds, budget and pace."""
    highest, why = _ceiling(policy)
    load = _load(demand)
    if current >= highest:
        by_budget = policy.affordable is not None and policy.affordable <= highest < policy.max_replicas
        reason = Reason.OVER_BUDGET if by_budget else Reason.AT_MAXIMUM
        return _hold(current, reason, f"{load}, which asks for {wanted}; no more than {why}", wanted)
    if policy.budget_per_hour is not None and policy.replica_cost is None:
        message = f"{load}, which asks for {wanted}; a replica's price is unknown, so budgetPerHour cannot be kept"
        return _hold(current, Reason.PRICE_UNKNOWN, message, wanted)
    if not _past_first_window(policy, state, now):
        message = f"{load}, which asks for {wanted}; watching for {format_duration(policy.window)} before acting"
        return _hold(current, Reason.FIRST_WINDOW, message, wanted)
    lasting = state.recommendations.out.lasting(now, policy.scale_out_stabilization, min)
    if lasting is None or lasting <= current:
        need = format_duration(policy.scale_out_stabilization)
        return _hold(current, Reason.NEED_NOT_SETTLED, f"{load}, which asks for {wanted}; not yet for {need}", wanted)
    most = current + max(MOST_ADDED_AT_LEAST, current)
    bounded = min(lasting, wanted, highest, most)
    return Decision(current, wanted, bounded, Reason.SCALE_OUT, f"{load}, which asks for {replicas(wanted)}")


def _scale_in(
    current: int,
    wanted: int,
    observation: Observation,
    demand: Demand,
    policy: Policy,
    state: DecisionState,
    now: float,
) -> Decision:
    """Fewer replicas: never fewer than any moment of the window asked for, and a few at a time."""
    lowest = min(policy.floor, _ceiling(policy)[0])
    load = _load(demand)
    if current <= lowest:
        return _hold(current, Reason.AT_MINIMUM, f"{load}; minReplicas {policy.min_replicas} keeps {current}", wanted)
    if observation.quality.coverage < 1.0:
        message = f"{load}; not removing any while {len(observation.quality.missing)} replicas have no data"
        return _hold(current, Reason.INCOMPLETE, message, wanted)
    if observation.outdated:
        message = (
            f"{load}; not removing any while {observation.outdated} of {observation.serving} serving replicas are of "
            "a configuration before this one"
        )
        return _hold(current, Reason.ROLLING_OUT, message, wanted)
    lasting = state.recommendations.into.lasting(now, _patience(policy), max)
    if lasting is None or lasting >= current or not _past_first_window(policy, state, now):
        surplus = format_duration(_patience(policy))
        message = f"{load}, which {wanted} could carry; not removing any before that has lasted {surplus}"
        return _hold(current, Reason.SURPLUS_NOT_SETTLED, message, wanted)
    least = current - max(int(current * MOST_REMOVED_SHARE), 1)
    bounded = max(lasting, wanted, lowest, least)
    message = f"{load}: no more than {replicas(wanted)} needed for {format_duration(_patience(policy))}"
    return Decision(current, wanted, bounded, Reason.SCALE_IN, message)


def _past_first_window(policy: Policy, state: DecisionState, now: float) -> bool:
    """Whether this process has watched the service for one window: a new one knows nothing of what the last one did."""
    return state.first_seen is not None and now - state.first_seen >= policy.window
