"""Diagnosis, case by case, and how long a kind must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_detector.decision.policy import Policy
from plimsoll_detector.observation import Latency, Observation, PodReading, Problem, Quality
from plimsoll_detector.peers import outliers

Make = Callable[..., Observation]
Change = Callable[[Observation], Observation]


def with_pod(observation: Observation, index: int, **changes: Any) -> Observation:
    """An observation in which one replica differs."""
    pods = list(observation.pods)
    pods[index] = replace(pods[index], **changes)
    return replace(observation, pods=tuple(pods))


STUCK = {"running_floor": 4.0, "generation_tokens": 0.0, "started": 0.0, "steps": 0.0}

CASES: dict[str, tuple[float, int, Change, DiagnosisKind]] = {
    "within the line": (3.0, 4, lambda seen: seen, DiagnosisKind.NORMAL),
    "above the line": (5.0, 4, lambda seen: seen, DiagnosisKind.OVERLOAD),
    "objectives missed under strain": (
        3.2,
        4,
        lambda seen: replace(seen, latencies={"ttft": Latency(3.0, 2.0, 0.8)}),
        DiagnosisKind.OVERLOAD,
    ),
    "objectives missed without load": (
        1.4,
        2,
        lambda seen: replace(seen, latencies={"ttft": Latency(3.0, 2.0, 0.8)}),
        DiagnosisKind.NORMAL,
    ),
    "little load": (1.0, 4, lambda seen: seen, DiagnosisKind.UNDERLOAD),
    "no load at all": (0.0, 4, lambda seen: seen, DiagnosisKind.UNDERLOAD),
    "little load, one replica unseen": (
        1.0,
        4,
        lambda seen: replace(seen, quality=Quality(coverage=0.95, missing=("pod-3",))),
        DiagnosisKind.NORMAL,
    ),
    "one replica slow": (3.0, 4, lambda seen: with_pod(seen, 2, itl=0.09), DiagnosisKind.DEGRADED),
    "one of two slow": (1.5, 2, lambda seen: with_pod(seen, 0, itl=0.09), DiagnosisKind.DEGRADED),
    "one replica failing": (3.0, 4, lambda seen: with_pod(seen, 1, errors=0.7), DiagnosisKind.DEGRADED),
    "one replica slower, but well": (3.0, 4, lambda seen: with_pod(seen, 2, itl=0.048), DiagnosisKind.NORMAL),
    "one replica stuck": (3.0, 4, lambda seen: with_pod(seen, 1, **STUCK), DiagnosisKind.STALLED),
    "one long prompt": (
        3.0,
        4,
        lambda seen: with_pod(seen, 1, **{**STUCK, "steps": 8.0}),
        DiagnosisKind.NORMAL,
    ),
    "stuck and blind": (
        3.0,
        4,
        lambda seen: replace(with_pod(seen, 1, **STUCK), quality=Quality(Problem.STALE, "old", coverage=0.0)),
        DiagnosisKind.BLIND,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_lasting_state_has_one_name(case: str, policy: Policy, observation: Make, clock: Any) -> None:
    """Two minutes of the same: the diagnosis is what the rules say."""
    load, serving, change, kind = CASES[case]
    service = clock(policy, serving)
    service.follow = False
    made = service.ticks(change(observation(load, serving)), 120)
    assert made.diagnosis.kind is kind
    assert made.diagnosis.message
    if kind in (DiagnosisKind.DEGRADED, DiagnosisKind.STALLED):
        assert len(made.diagnosis.pods) == 1


def test_one_odd_look_is_no_diagnosis(policy: Policy, observation: Make, clock: Any) -> None:
    """A replica that is slow in one window only is not called degraded; an overload is called one at once."""
    service = clock(policy, 4)
    service.ticks(observation(3.0, 4), 120)
    assert service.tick(with_pod(observation(3.0, 4), 2, itl=0.09)).diagnosis.kind is DiagnosisKind.NORMAL
    service.follow = False
    assert service.tick(observation(5.0, 4)).diagnosis.kind is DiagnosisKind.OVERLOAD


def test_an_overload_is_over_however_the_calm_looks(policy: Policy, observation: Make, clock: Any) -> None:
    """Within the load line and far below it by turns, neither for long: the overload ends all the same."""
    service = clock(policy, 4)
    service.follow = False
    service.ticks(observation(6.0, 4), 120)
    kinds = [service.tick(observation(load, 4)).diagnosis.kind for load in (1.0, 3.0, 1.0, 3.0, 1.0, 3.0)]
    assert kinds == [DiagnosisKind.OVERLOAD] * 2 + [DiagnosisKind.NORMAL] * 4
    assert service.ticks(observation(1.0, 4), 120).diagnosis.kind is DiagnosisKind.UNDERLOAD
    assert service.tick(observation(3.0, 4)).diagnosis.kind is DiagnosisKind.UNDERLOAD


def test_a_backlog_from_before_its_peers_came_is_no_fault(policy: Policy, observation: Make, clock: Any) -> None:
    """The replica that was there first works it off, with first tokens later than its peers have served; a time to
    first token that all the replicas have seen is compared."""
    service = clock(policy, 2)
    service.follow = False
    service.ticks(observation(1.0, 1), 60)
    backlog = with_pod(observation(1.0, 2), 0, ttft=100.0)
    assert service.ticks(backlog, 75).diagnosis.kind is not DiagnosisKind.DEGRADED
    assert service.ticks(backlog, 120).diagnosis.kind is DiagnosisKind.DEGRADED


def test_since_is_when_it_began(policy: Policy, observation: Make, clock: Any, now: float) -> None:
    """And stays while the kind does."""
    service = clock(policy, 4)
    service.follow = False
    service.tick(observation(3.0, 4))
    began = service.now
    service.tick(observation(5.0, 4))
    assert service.ticks(observation(6.0, 4), 300).diagnosis.since == began


def test_contributions_have_a_direction(policy: Policy, observation: Make, clock: Any) -> None:
    """A queue and a missed objective push towards overload, an empty cache the other way; strongest first."""
    seen = observation(5.0, 4, waiting=80.0, kv_usage=0.1)
    contributions = clock(policy, 4).tick(seen).diagnosis.contributions
    pushes = {one.signal: one.push for one in contributions}
    assert pushes["waiting per replica"] > 0
    assert pushes["utilization"] > 0
    assert pushes["KV cache usage"] < 0
    strengths = [abs(one.push) for one in contributions]
    assert strengths == sorted(strengths, reverse=True)


@given(st.lists(st.floats(0.02, 0.04), min_size=2, max_size=12))
def test_replicas_that_are_alike_have_no_outlier(latencies: list[float]) -> None:
    """Whatever the noise within a factor of two, where none is above its floor."""
    pods = [PodReading(f"p{index}", started=1.0, itl=itl) for index, itl in enumerate(latencies)]
    assert outliers(pods, {"itl": 0.05}) == []


@given(st.integers(2, 12), st.floats(0.02, 0.05), st.floats(4.0, 50.0))
def test_a_replica_four_times_as_slow_is_always_found(peers: int, itl: float, factor: float) -> None:
    """However many peers it has, also two."""
    pods = [PodReading(f"p{index}", started=1.0, itl=itl) for index in range(peers)]
    pods.append(PodReading("slow", started=1.0, itl=itl * factor))
    assert [outlier.pod for outlier in outliers(pods, {"itl": 0.05})] == ["slow"]
