"""What is happening to a service: rules over one observation, with a memory of how long it has looked so. Pure.

The rules are asked in order; the first that holds names the kind. Blind before all, because nothing else can be known
then; a stalled or degraded replica before the load, because it is what makes the load look different.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_detector.decision.demand import Demand
from plimsoll_detector.decision.load_line import MIN_REQUESTS
from plimsoll_detector.decision.policy import SCALE_IN_UTILIZATION
from plimsoll_detector.observation import Observation, PodReading
from plimsoll_detector.peers import Outlier, outliers
from plimsoll_detector.wording import seconds, significant

ENTER_SECONDS: Final = {
    DiagnosisKind.BLIND: 0.0,
    DiagnosisKind.OVERLOAD: 0.0,
    DiagnosisKind.STALLED: 30.0,
    DiagnosisKind.DEGRADED: 30.0,
    DiagnosisKind.UNDERLOAD: 60.0,
    DiagnosisKind.NORMAL: 30.0,
}
"""How long a kind must be what the rules say before it is the diagnosis. Blind and Overload at once: the one stops
harm, the other's answer has its own stabilisation. The others show over whole windows already; two more looks keep a
single odd one out."""

CALM: Final = frozenset({DiagnosisKind.NORMAL, DiagnosisKind.UNDERLOAD})
"""Kinds in which nothing is wrong. What was wrong is over once neither was interrupted for as long as Normal must
hold, however the two take turns."""

OVERLOAD_UTILIZATION: Final = 1.0
"""Share of the serving replicas' load line above which a service is overloaded: that is what the line means."""

STRAINED_UTILIZATION: Final = 0.7
"""Share of the load line above which missed objectives are put down to the load."""

MOST_PODS: Final = 32
MOST_CONTRIBUTIONS: Final = 16
"""What `status.diagnosis` has room for."""

# Reference points of contributions: where a signal pushes neither way.
_KV_REFERENCE: Final = 0.9
_QUEUE_REFERENCE: Final = 1.0


@dataclass(frozen=True)
class Signed:
    """One signal's part in the diagnosis.

    Attributes:
        signal: its name, with the pod's where it is about one.
        value: what was measured, with its unit.
        reference: what it is held against.
        push: natural logarithm of value over reference: above 0 towards overload, below towards underload.
    """

    signal: str
    value: str
    reference: str
    push: float


@dataclass(frozen=True)
class Diagnosis:
    """What is happening, since when, and on what grounds.

    Attributes:
        kind: what.
        since: since when, in seconds since the epoch.
        message: why, in one line with numbers.
        pods: which replicas it is about; empty for the whole service.
        contributions: the signals, strongest first.
    """

    kind: DiagnosisKind
    since: float
    message: str = ""
    pods: tuple[str, ...] = ()
    contributions: tuple[Signed, ...] = ()


@dataclass(frozen=True)
class DiagnosisState:
    """Memory of a service's diagnosis.

    Attributes:
        kind: the diagnosis in force; None before the first.
        since: since when.
        candidate: what the rules said last.
        candidate_since: since when they say so.
        calm_since: since when they say that nothing is wrong; None when something is.
        last: the diagnosis as it was last told, for a candidate that is not in force yet.
        serving: replicas that serve.
        serving_since: since when as many do.
    """

    kind: DiagnosisKind | None = None
    since: float = 0.0
    candidate: DiagnosisKind | None = None
    candidate_since: float = 0.0
    calm_since: float | None = None
    last: Diagnosis | None = None
    serving: int = 0
    serving_since: float = 0.0


@dataclass(frozen=True)
class Context:
    """What the rules look at.

    Attributes:
        observation: what is measured.
        demand: what it asks for, in replicas at their load line; None without a load line.
        current: replicas asked for.
        together: seconds that as many replicas have served.
    """

    observation: Observation
    demand: Demand | None
    current: int
    together: float = math.inf

    @property
    def utilization(self) -> float | None:
        """Demand per serving replica; None when there is neither."""
        serving = self.observation.serving
        return self.demand.total / serving if self.demand is not None and serving else None

    @property
    def backlog(self) -> float:
        """Demand per serving replica with all that waits, also what is being worked off; 0 when that is not known."""
        serving = self.observation.serving
        return self.demand.backlog / serving if self.demand is not None and serving else 0.0


def diagnose(context: Context, state: DiagnosisState, now: float) -> tuple[Diagnosis, DiagnosisState]:
    """The diagnosis, and what to remember.

    Args:
        context: what the rules look at.
        state: what was remembered.
        now: seconds since the epoch.
    """
    serving = context.observation.serving
    if serving != state.serving:
        state = replace(state, serving=serving, serving_since=now)
    context = replace(context, together=now - state.serving_since)
    found = next(verdict for rule in RULES if (verdict := rule(context)) is not None)
    same = found.kind is state.candidate
    state = replace(
        state,
        candidate=found.kind,
        candidate_since=state.candidate_since if same else now,
        calm_since=_calm_since(found.kind, state, now),
    )
    if not _settled(found.kind, state, now) and _over(state, now):
        found = _normal(context)
    elif found.kind is not state.kind and not _settled(found.kind, state, now):
        # Not in force yet: what was, goes on, on the grounds that it had.
        assert state.last is not None
        return state.last, state
    since = state.since if found.kind is state.kind else now
    told = replace(found, since=since)
    return told, replace(state, kind=found.kind, since=since, last=told)


def _calm_since(kind: DiagnosisKind, state: DiagnosisState, now: float) -> float | None:
    if kind not in CALM:
        return None
    return now if state.calm_since is None else state.calm_since


def _settled(kind: DiagnosisKind, state: DiagnosisState, now: float) -> bool:
    """Whether the candidate has held for long enough. Nothing was known while blind: there is nothing to wait for."""
    return state.kind in (None, DiagnosisKind.BLIND) or now - state.candidate_since >= ENTER_SECONDS[kind]


def _over(state: DiagnosisState, now: float) -> bool:
    """Whether what was wrong is over, although no one kind has held for long enough since."""
    if state.kind is DiagnosisKind.UNDERLOAD or state.calm_since is None:
        return False
    return now - state.calm_since >= ENTER_SECONDS[DiagnosisKind.NORMAL]


def _blind(context: Context) -> Diagnosis | None:
    quality = context.observation.quality
    if quality.usable:
        return None
    coverage = Signed("coverage", f"{quality.coverage:.0%}", "100%", 0.0)
    return Diagnosis(DiagnosisKind.BLIND, 0.0, quality.message, quality.missing[:MOST_PODS], (coverage,))


def _stalled(context: Context) -> Diagnosis | None:
    """Replicas that hold requests, answer the scrape, and have not moved for a whole window."""
    stuck = tuple(pod.name for pod in context.observation.pods if is_stuck(pod))
    if not stuck:
        return None
    message = f"{_names(stuck)} had requests in the batch for the whole window and generated no token"
    contributions = tuple(
        Signed(f"generated tokens of {pod.name}", "0/s", f"{significant(pod.running or 0.0)} running", 0.0)
        for pod in context.observation.pods
        if pod.name in stuck
    )
    return Diagnosis(DiagnosisKind.STALLED, 0.0, message, stuck[:MOST_PODS], contributions[:MOST_CONTRIBUTIONS])


def is_stuck(pod: PodReading) -> bool:
    """Whether a replica had requests throughout the window and made no step.

    Engine steps, where the engine counts them, tell a stuck engine from one that computes one very long prompt.
    """
    holds = (pod.running_floor or 0.0) >= 1.0
    silent = pod.generation_tokens == 0.0 and pod.started == 0.0
    return holds and silent and (pod.steps is None or pod.steps == 0.0)


def _degraded(context: Context) -> Diagnosis | None:
    """Replicas out of line with their peers."""
    targets = {name: latency.target for name, latency in context.observation.latencies.items() if latency.target}
    # Half of the objective: a replica well within it harms nobody, however fast its peers are.
    floors = {"itl": targets.get("tpot", 0.0) / 2, "ttft": targets.get("ttft", 0.0) / 2}
    odd = outliers(context.observation.pods, floors, context.together)
    if not odd or len(odd) * 2 > max(context.observation.measured, 2):
        return None  # when most are "odd", it is the few others that differ
    pods = tuple(outlier.pod for outlier in odd)
    message = f"{_names(pods)} out of line with {'its' if len(pods) == 1 else 'their'} peers: {_outlier(odd[0])}"
    contributions = tuple(
        Signed(f"{outlier.signal} of {outlier.pod}", _measure(outlier.signal, outlier.value), f"peers' {peers}", 0.0)
        for outlier in odd
        for peers in (_measure(outlier.signal, outlier.peers),)
    )
    return Diagnosis(DiagnosisKind.DEGRADED, 0.0, message, pods[:MOST_PODS], contributions[:MOST_CONTRIBUTIONS])


def _overload(context: Context) -> Diagnosis | None:
    """More than the serving replicas carry at the objectives."""
    utilization, observation = context.utilization, context.observation
    if utilization is None:
        return None
    missed = [
        f"{name} {seconds(latency.value)} for {seconds(latency.target)}"
        for name, latency in observation.latencies.items()
        if latency.missed and latency.target is not None
    ]
    strained = bool(missed) and observation.requests >= MIN_REQUESTS and utilization > STRAINED_UTILIZATION
    queued = context.backlog > OVERLOAD_UTILIZATION
    if utilization <= OVERLOAD_UTILIZATION and not strained and not queued:
        return None
    message = _load_message(context, utilization)
    if queued:
        message += f"; {significant(observation.waiting)} requests wait"
    if strained:
        message += f"; objectives missed: {', '.join(missed)}"
    return Diagnosis(DiagnosisKind.OVERLOAD, 0.0, message, contributions=load_contributions(context))


def _underload(context: Context) -> Diagnosis | None:
    """Fewer replicas would carry the load with room to spare, and everything needed to know that is there."""
    utilization, observation = context.utilization, context.observation
    if utilization is None or context.demand is None or observation.measured < observation.serving:
        return None
    enough = max(math.ceil(context.demand.total / SCALE_IN_UTILIZATION), 1)
    if enough >= observation.serving or observation.waiting > 0 or observation.quality.coverage < 1.0:
        return None
    message = f"{_load_message(context, utilization)}; {enough} would do"
    return Diagnosis(DiagnosisKind.UNDERLOAD, 0.0, message, contributions=load_contributions(context))


def _normal(context: Context) -> Diagnosis:
    utilization, observation = context.utilization, context.observation
    if utilization is None:
        why = "no replica is ready" if observation.serving == 0 else "there is no load line yet"
        return Diagnosis(DiagnosisKind.NORMAL, 0.0, f"{why}: nothing to hold the load against")
    message = _load_message(context, utilization)
    return Diagnosis(DiagnosisKind.NORMAL, 0.0, message, contributions=load_contributions(context))


Rule = Callable[[Context], Diagnosis | None]
RULES: Final[tuple[Rule, ...]] = (_blind, _stalled, _degraded, _overload, _underload, _normal)


def load_contributions(context: Context) -> tuple[Signed, ...]:
    """The signals of load with their direction, strongest first."""
    observation, utilization = context.observation, context.utilization
    found: list[Signed] = []
    if utilization is not None:
        found.append(_signed("utilization", utilization, OVERLOAD_UTILIZATION))
    if observation.serving:
        found.append(_signed("waiting per replica", observation.waiting / observation.serving, _QUEUE_REFERENCE))
    if observation.kv_usage is not None:
        found.append(_signed("KV cache usage", observation.kv_usage, _KV_REFERENCE))
    for name, latency in observation.latencies.items():
        if latency.target is not None:
            push = _push(latency.value, latency.target)
            found.append(Signed(name, seconds(latency.value), seconds(latency.target), push))
    return tuple(sorted(found, key=lambda one: -abs(one.push)))[:MOST_CONTRIBUTIONS]


def _signed(name: str, value: float, reference: float) -> Signed:
    return Signed(name, significant(value), significant(reference), _push(value, reference))


def _push(value: float, reference: float) -> float:
    """Logarithm of value over reference, kept within a factor of 100 so that an empty queue outweighs nothing."""
    return math.log(min(max(value / reference, 0.01), 100.0))


def _load_message(context: Context, utilization: float) -> str:
    """The load in words."""
    assert context.demand is not None
    return (
        f"{significant(utilization)} of the load line on {context.observation.serving} serving replicas: "
        f"{significant(context.observation.arrivals)} requests/s arrive, "
        f"{significant(context.demand.line)} each can carry"
    )


def _names(pods: tuple[str, ...], shown: int = 3) -> str:
    return ", ".join(pods[:shown]) + (f" and {len(pods) - shown} more" if len(pods) > shown else "")


def _outlier(outlier: Outlier) -> str:
    """`itl 120ms, peers 31ms`."""
    value, peers = _measure(outlier.signal, outlier.value), _measure(outlier.signal, outlier.peers)
    return f"{outlier.signal} {value}, peers {peers}"


def _measure(signal: str, value: float) -> str:
    return f"{value:.0%}" if signal == "errors" else seconds(value)
