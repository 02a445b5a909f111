"""A roll-out to another configuration: its load line is not that of the replicas which still serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_detector.decision.decide import Reason
from plimsoll_detector.decision.load_line import followed
from plimsoll_detector.decision.policy import LoadLine, Policy
from plimsoll_detector.decision.state import DecisionState
from plimsoll_detector.features import Limits, Objectives, observe
from plimsoll_detector.observation import Observation, PodFacts
from plimsoll_detector.reading import Reading

Make = Callable[..., Observation]


def times(line: LoadLine, factor: float) -> LoadLine:
    """The load line of replicas that carry so many times as much."""
    return replace(
        line,
        requests_per_second=line.requests_per_second * factor,
        concurrency=line.concurrency * factor,
        output_tokens_per_second=line.output_tokens_per_second * factor,
    )


def test_replicas_of_another_revision_are_counted(reading: Any, limits: Limits, objectives: Objectives) -> None:
    """Only among those that serve, and only where both revisions are known."""
    facts = [
        PodFacts("old", ready=True, ready_since=0.0, revision="a"),
        PodFacts("new", ready=True, ready_since=0.0, revision="b"),
        PodFacts("starting", ready=False, revision="a"),
        PodFacts("leaving", ready=True, leaving=True, revision="a"),
        PodFacts("silent", ready=True, ready_since=0.0),
    ]
    made: Reading = reading({pod.name: {} for pod in facts})
    seen = observe(made, None, facts, objectives, limits, "b")
    assert seen.outdated == 1
    assert [pod.revision for pod in seen.pods] == ["a", "b", None]
    assert observe(made, None, facts, objectives, limits, None).outdated == 0


@pytest.fixture
def rolling(policy: Policy, line: LoadLine, observation: Make, clock: Any) -> Any:
    """Eight replicas at three quarters of their line, and a recommendation with four times that line."""
    service = clock(policy, 8)
    service.ticks(observation(6.0, 8), 900)
    assert service.current == 8
    service.policy = replace(policy, load_line=times(line, 4.0))
    return service


def test_no_replica_goes_by_a_line_that_is_not_its_own(rolling: Any, observation: Make) -> None:
    """While the old ones serve they are as busy as before; a surplus counts from when they are gone."""
    for old in range(8, 0, -1):
        made = rolling.ticks(observation(6.0, 8, outdated=old), 300)
        assert made.diagnosis.kind is DiagnosisKind.NORMAL
        assert rolling.current == 8
    assert made.memory.decision.former is not None
    rolling.ticks(observation(6.0, 8), 285)
    assert rolling.current == 8
    rolling.ticks(observation(6.0, 8), 1200)
    assert rolling.current == 3


def test_more_load_on_the_old_replicas_still_adds_some(rolling: Any, observation: Make) -> None:
    """By their own line, below which the new one sees no need."""
    rolling.tick(observation(6.0, 8, outdated=8))
    made = rolling.tick(observation(9.0, 8, outdated=8))
    assert (made.decision.reason, made.decision.bounded) == (Reason.SCALE_OUT, 11)


def test_a_lower_line_is_prepared_for(policy: Policy, line: LoadLine, observation: Make, clock: Any) -> None:
    """The replicas that come carry less: more are asked for before the old ones go."""
    service = clock(policy, 4)
    service.ticks(observation(3.0, 4), 300)
    service.policy = replace(policy, load_line=times(line, 0.5))
    assert service.tick(observation(3.0, 4, outdated=4)).decision.bounded == 8


def test_a_new_process_does_not_know_the_former_line(policy: Policy, observation: Make, clock: Any) -> None:
    """So it removes nothing until the replicas are of the line it has, and says why."""
    service = clock(policy, 8)
    made = service.ticks(observation(1.0, 8, outdated=3), 900)
    assert (made.decision.reason, made.decision.bounded) == (Reason.ROLLING_OUT, 8)
    assert "3 of 8 serving replicas" in made.decision.message
    assert service.ticks(observation(1.0, 8), 285).decision.reason is Reason.SURPLUS_NOT_SETTLED
    assert service.ticks(observation(1.0, 8), 45).decision.reason is Reason.SCALE_IN


def test_replicas_are_compared_with_those_of_their_revision(policy: Policy, observation: Make, clock: Any) -> None:
    """New ones on a slower GPU are no fault; one that is slower than its own kind is."""

    def fleet(*itl: float) -> Observation:
        seen = observation(4.0, 6)
        pods = [
            replace(pod, itl=each, revision="old" if index < 3 else "new")
            for index, (pod, each) in enumerate(zip(seen.pods, itl, strict=True))
        ]
        return replace(seen, pods=tuple(pods), outdated=3)

    service = clock(policy, 6)
    assert service.ticks(fleet(0.02, 0.02, 0.02, 0.09, 0.09, 0.09), 120).diagnosis.kind is DiagnosisKind.NORMAL
    made = service.ticks(fleet(0.02, 0.02, 0.02, 0.09, 0.09, 0.4), 120)
    assert (made.diagnosis.kind, made.diagnosis.pods) == (DiagnosisKind.DEGRADED, ("pod-5",))


@pytest.mark.parametrize(("before", "after"), [(1.6, 1.0), (0.6, 0.6), (1.0, 1.0)])
def test_a_correction_towards_thrift_ends_with_its_line(before: float, after: float, line: LoadLine) -> None:
    """Replicas of another configuration have not shown that they carry more than predicted."""
    state = DecisionState(line=line, line_ratio=before)
    assert followed(state, times(line, 2.0), 2).line_ratio == after
    assert followed(state, line, 0).line_ratio == before


def test_the_former_line_is_that_of_the_oldest_replicas(line: LoadLine) -> None:
    """However often the recommendation changes, until all replicas are of the newest one."""
    state = followed(DecisionState(line=line, line_ratio=0.8), times(line, 2.0), 4)
    state = followed(state, times(line, 3.0), 4)
    assert state.former is not None
    assert (state.former.line, state.former.ratio) == (line, 0.8)
    assert followed(state, times(line, 3.0), 0).former is None


def test_nothing_is_learnt_of_a_line_from_replicas_of_another(rolling: Any, observation: Make) -> None:
    """A queue on old replicas says nothing of what new ones carry."""
    queue = observation(6.0, 8, outdated=8, waiting=40.0)
    queue = replace(queue, pods=tuple(replace(pod, waiting_floor=5.0) for pod in queue.pods))
    rolling.follow = False
    assert rolling.ticks(queue, 600).memory.decision.line_ratio == 1.0
    assert rolling.ticks(replace(queue, outdated=0), 600).memory.decision.line_ratio == 0.5
