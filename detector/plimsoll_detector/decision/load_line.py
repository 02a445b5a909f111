"""The measured load line: correct the predicted one by what replicas show they carry. Pure.

The correction is a ratio, measured over predicted, kept between runs in `status.observed.loadLine`. Evidence for a
lower line: a replica that had a queue throughout the window carries what it carries and no more; or the objectives
are missed at a load below the line. Evidence for a higher one: they are met at a load above it. Without evidence the
ratio drifts back to 1, slowly, so that one bad hour does not cost replicas for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_detector.decision.demand import work_ratio
from plimsoll_detector.decision.policy import LoadLine
from plimsoll_detector.decision.state import DecisionState, FormerLine
from plimsoll_detector.observation import Observation, PodReading

RATIO_BOUNDS: Final = (0.5, 2.0)
"""How far measurement may move the predicted load line. Beyond, the recommendation is wrong and must be made anew; and
an objective that no number of replicas can meet must not buy more than twice as many."""

DOWN_SECONDS: Final = 45.0
UP_SECONDS: Final = 600.0
"""Time constants of the way to the evidence: towards caution within a minute, towards thrift in ten. A crowd that has
just arrived meets the objectives until its queue has built up; that must not pass for a higher line."""

HALF_LIFE_SECONDS: Final = 3600.0
"""Time in which half of a correction without further evidence fades."""

MIN_REQUESTS: Final = 20
"""Requests in a window below which its percentiles say nothing: a 95th percentile of fewer is its maximum."""

_NO_EVIDENCE: Final = frozenset({DiagnosisKind.BLIND, DiagnosisKind.STALLED, DiagnosisKind.DEGRADED})


@dataclass(frozen=True)
class Evidence:
    """What a window says of the load line, as ratios to the predicted one.

    Attributes:
        at_most: the line is not higher than this.
        at_least: the line is not lower than this.
    """

    at_most: float | None = None
    at_least: float | None = None


def followed(state: DecisionState, line: LoadLine | None, outdated: int) -> DecisionState:
    """The state with the load line that is predicted now.

    A correction towards thrift ends with the prediction that it corrected. One towards caution goes on until evidence
    undoes it: what makes one prediction too high is likely to make the next.

    Args:
        state: what was remembered.
        line: the predicted load line; None without a recommendation.
        outdated: serving replicas that it is not the load line of.
    """
    if line is None:
        return state
    former = state.former
    if state.line is not None and state.line != line:
        former = former or FormerLine(state.line, state.line_ratio)
        state = replace(state, line_ratio=min(state.line_ratio, 1.0))
    return replace(state, line=line, former=former if outdated else None)


def carried(pod: PodReading, line: LoadLine, ratio: float) -> float:
    """What one replica carries, as a share of the predicted load line, by requests or by tokens."""
    by_requests = (pod.started or 0.0) * ratio / line.requests_per_second
    by_tokens = (pod.generation_tokens or 0.0) / line.output_tokens_per_second
    return max(by_requests, by_tokens)


def evidence(observation: Observation, line: LoadLine) -> Evidence:
    """What a window of settled replicas says of the load line."""
    ratio = work_ratio(observation, line)
    loads = [carried(pod, line, ratio) for pod in observation.pods if pod.started is not None]
    if not loads:
        return Evidence()
    full = [carried(pod, line, ratio) for pod in observation.pods if (pod.waiting_floor or 0.0) >= 1.0]
    if full:
        return Evidence(at_most=median(full))
    if observation.requests < MIN_REQUESTS:
        return Evidence()
    if any(latency.missed for latency in observation.latencies.values()):
        return Evidence(at_most=median(loads))
    return Evidence(at_least=median(loads))


def next_ratio(
    ratio: float, observation: Observation, line: LoadLine, kind: DiagnosisKind, *, settled: bool, elapsed: float
) -> float:
    """The correction after one more tick.

    Args:
        ratio: the correction so far.
        observation: a usable one.
        line: the predicted load line.
        kind: the diagnosis: a sick replica says nothing about a healthy one's load line.
        settled: whether the same replicas served for all that the window shows.
        elapsed: seconds since the last tick.
    """
    low, high = RATIO_BOUNDS
    if not settled or kind in _NO_EVIDENCE or not observation.busy:
        return ratio
    found = evidence(observation, line)
    if found.at_most is not None and found.at_most < ratio:
        moved = found.at_most + (ratio - found.at_most) * math.exp(-elapsed / DOWN_SECONDS)
    elif found.at_least is not None and found.at_least > ratio:
        moved = found.at_least + (ratio - found.at_least) * math.exp(-elapsed / UP_SECONDS)
    elif found.at_most is None:
        moved = 1.0 + (ratio - 1.0) * 0.5 ** (elapsed / HALF_LIFE_SECONDS)
    else:
        moved = ratio
    return min(max(moved, low), high)
