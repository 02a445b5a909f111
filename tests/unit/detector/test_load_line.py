"""The measured load line: which evidence moves it, how far, how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_detector.decision.load_line import RATIO_BOUNDS, next_ratio
from plimsoll_detector.decision.policy import LoadLine, Policy
from plimsoll_detector.observation import Latency, Observation, PodReading, Problem, Quality

Make = Callable[..., Observation]
MISSED = {"ttft": Latency(3.0, 2.0, 0.8)}


def after(
    seen: Observation, line: LoadLine, seconds: float, ratio: float = 1.0, kind: DiagnosisKind = DiagnosisKind.NORMAL
) -> float:
    """The correction after so long of the same."""
    for _ in range(int(seconds / 15)):
        ratio = next_ratio(ratio, seen, line, kind, settled=True, elapsed=15.0)
    return ratio


def full(observation: Observation) -> Observation:
    """The same with a queue on every replica for the whole window."""
    return replace(observation, pods=tuple(replace(pod, waiting_floor=3.0) for pod in observation.pods))


def test_a_full_replica_carries_what_it_carries(observation: Make, line: LoadLine) -> None:
    """A queue at 70 % of the predicted line: that is the line, within minutes."""
    assert after(full(observation(1.4, 2)), line, 300) == pytest.approx(0.7, abs=0.01)


def test_missed_objectives_below_the_line_lower_it(observation: Make, line: LoadLine) -> None:
    """Without a queue, too."""
    assert after(observation(1.6, 2, latencies=MISSED), line, 300) == pytest.approx(0.8, abs=0.01)


def test_objectives_met_above_the_line_raise_it_slowly(observation: Make, line: LoadLine) -> None:
    """A crowd of half a minute does not, an hour does."""
    crowd = observation(4.0, 2)
    assert after(crowd, line, 30) < 1.06
    assert after(crowd, line, 3600) == pytest.approx(2.0, abs=0.01)


def test_without_evidence_it_fades(observation: Make, line: LoadLine) -> None:
    """Half of it in an hour, as long as there is traffic; none of it while there is none."""
    assert after(observation(0.6, 2), line, 3600, ratio=0.6) == pytest.approx(0.8, abs=0.01)
    assert after(observation(0.0, 2), line, 3600, ratio=0.6) == 0.6


@pytest.mark.parametrize("kind", [DiagnosisKind.BLIND, DiagnosisKind.STALLED, DiagnosisKind.DEGRADED])
def test_a_sick_replica_says_nothing(kind: DiagnosisKind, observation: Make, line: LoadLine) -> None:
    """Its queue is its own fault."""
    assert after(full(observation(1.0, 2)), line, 600, kind=kind) == 1.0


def test_few_requests_say_nothing(observation: Make, line: LoadLine) -> None:
    """Their percentile is their maximum."""
    assert after(observation(1.6, 2, latencies=MISSED, requests=5.0), line, 600) == 1.0


@given(load=st.floats(0.0, 50.0), ratio=st.floats(*RATIO_BOUNDS), waits=st.booleans(), elapsed=st.floats(0.0, 1e6))
def test_it_stays_within_its_bounds(load: float, ratio: float, waits: bool, elapsed: float) -> None:
    """Whatever is measured, for however long."""
    line = LoadLine(2.0, 20.0, 500.0, 1000.0, 0.04)
    pod = PodReading("a", started=load, generation_tokens=load * 250, waiting_floor=5.0 if waits else 0.0)
    seen = Observation(0.0, Quality(), serving=1, pods=(pod,), arrivals=load, requests=load * 60, latencies=MISSED)
    moved = next_ratio(ratio, seen, line, DiagnosisKind.NORMAL, settled=True, elapsed=elapsed)
    assert RATIO_BOUNDS[0] <= moved <= RATIO_BOUNDS[1]


def test_one_look_after_an_outage_is_one_look(policy: Policy, observation: Make, clock: Any) -> None:
    """Half an hour of blindness does not make the first look at a crowd count for half an hour."""
    service = clock(policy, 4)
    service.follow = False
    service.ticks(observation(3.0, 4), 600)
    service.ticks(observation(3.0, 4, quality=Quality(Problem.STALE, "stale", coverage=0.0)), 1800)
    made = service.tick(observation(7.6, 4))
    assert made.memory.decision.line_ratio < 1.15
