"""What `decide` never does, whatever it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plimsoll_detector.decision import demand as demands
from plimsoll_detector.decision.load_line import RATIO_BOUNDS
from plimsoll_detector.decision.policy import SCALE_OUT_UTILIZATION, Policy
from plimsoll_detector.observation import Observation, Problem, Quality

Make = Callable[..., Observation]

# The fixtures hold builders without state, so one instance for all examples is right; how fast examples are made is no
# verdict, as in the profile, whose list this one replaces.
unchecked = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
examples = settings(max_examples=60, deadline=None, suppress_health_check=unchecked)

loads = st.lists(st.floats(0.0, 30.0), min_size=1, max_size=12)
queues = st.floats(0.0, 500.0)
qualities = st.sampled_from(
    [Quality(), Quality(coverage=0.95, missing=("a",)), Quality(Problem.STALE, "stale"), Quality(Problem.NO_DATA, "no")]
)
bounds = st.tuples(st.integers(0, 5), st.integers(5, 20))


def run(clock: Any, policy: Policy, current: int, seen: list[Observation], ticks_each: int = 8) -> list[Any]:
    """Every judgement of a service that sees these observations for two minutes each."""
    service = clock(policy, current)
    judgements = []
    for observation in seen:
        for _ in range(ticks_each):
            before = service.current
            made = service.tick(observation)
            judgements.append((before, observation, made))
    return judgements


@examples
@given(loads=loads, queue=queues, quality=qualities, bounds=bounds, current=st.integers(1, 20))
def test_bounds_budget_and_pace_are_kept(
    loads: list[float],
    queue: float,
    quality: Quality,
    bounds: tuple[int, int],
    current: int,
    policy: Policy,
    observation: Make,
    clock: Any,
) -> None:
    """Never outside the bounds, never beyond the budget, never more than the pace allows."""
    kept = replace(
        policy,
        min_replicas=bounds[0],
        max_replicas=bounds[1],
        scale_to_zero_after=600.0 if bounds[0] == 0 else None,
        budget_per_hour=30.0,
        replica_cost=3.0,
        scale_in_stabilization=60.0,
    )
    seen = [observation(load, current, waiting=queue, quality=quality) for load in loads]
    for before, _, made in run(clock, kept, current, seen):
        bounded = made.decision.bounded
        assert max(bounds[0], 1) <= bounded <= min(bounds[1], 10)
        inside = max(bounds[0], 1) <= before <= min(bounds[1], 10)
        if inside:
            assert bounded <= before + max(4, before)
            assert bounded >= before - max(before // 4, 1)


@examples
@given(loads=loads, queue=queues, drain=st.floats(0.0, 50.0), quality=qualities, current=st.integers(1, 20))
def test_it_never_scales_in_while_above_target(
    loads: list[float],
    queue: float,
    drain: float,
    quality: Quality,
    current: int,
    policy: Policy,
    observation: Make,
    clock: Any,
) -> None:
    """Nor to fewer than would carry the present load at the target, nor below what serves while a queue needs that."""
    eager = replace(policy, scale_in_stabilization=0.0)
    seen = [observation(load, current, waiting=queue, started=load * 2.0 + drain, quality=quality) for load in loads]
    for before, observed, made in run(clock, eager, current, seen):
        if made.decision.bounded < before:
            assert made.demand is not None
            assert made.demand.total / made.decision.bounded <= SCALE_OUT_UTILIZATION
            assert made.demand.backlog < observed.serving or made.decision.bounded >= observed.serving


@examples
@given(loads=loads, factor=st.floats(0.1, 10.0), outdated=st.integers(1, 20), current=st.integers(2, 20))
def test_a_roll_out_removes_nothing(
    loads: list[float], factor: float, outdated: int, current: int, policy: Policy, observation: Make, clock: Any
) -> None:
    """Whatever the new load line is; and what is asked for carries the load by either of the two."""
    assert policy.load_line is not None
    line = policy.load_line
    other = replace(line, requests_per_second=line.requests_per_second * factor, concurrency=line.concurrency * factor)
    service = clock(replace(policy, scale_in_stabilization=0.0), current)
    service.tick(observation(loads[0], current))
    service.policy = replace(service.policy, load_line=other)
    for load in loads:
        for _ in range(8):
            before = service.current
            made = service.tick(observation(load, before, outdated=min(outdated, before)))
            assert made.decision.bounded >= before
            assert made.demand is not None
            assert made.demand.total >= load / 2.0


@examples
@given(loads=loads, current=st.integers(1, 20), problem=st.sampled_from(list(Problem)))
def test_blind_holds(
    loads: list[float], current: int, problem: Problem, policy: Policy, observation: Make, clock: Any
) -> None:
    """Every kind of blindness, whatever the numbers."""
    seen = [observation(load, current, quality=Quality(problem, "x", coverage=0.0)) for load in loads]
    assert all(made.decision.bounded == before for before, _, made in run(clock, policy, current, seen))


@examples
@given(load=st.floats(0.5, 12.0), current=st.integers(1, 20))
def test_it_settles_and_stays(load: float, current: int, policy: Policy, observation: Make, clock: Any) -> None:
    """Under a steady load it ends at a number that carries it, and moves no more: growth, decline, no flapping."""
    service = clock(replace(policy, scale_in_stabilization=60.0), current)
    for _ in range(200):
        service.tick(observation(load, service.current))
    settled = service.current
    for _ in range(100):
        service.tick(observation(load, service.current))
        assert service.current == settled
    low, _ = RATIO_BOUNDS
    assert load / settled <= SCALE_OUT_UTILIZATION + 1e-6
    assert settled <= load / low / 0.5 + 1


@examples
@given(load=st.floats(0.5, 12.0), current=st.integers(1, 20), queue=queues)
def test_the_same_input_gives_the_same_output(
    load: float, current: int, queue: float, policy: Policy, observation: Make, clock: Any
) -> None:
    """No clock, no chance, no hidden state."""
    seen = [observation(load, current, waiting=queue), observation(load / 2, current)]
    first, second = (run(clock, policy, current, seen) for _ in range(2))
    assert [made for _, _, made in first] == [made for _, _, made in second]


@examples
@given(load=st.floats(0.1, 20.0), more=st.floats(0.0, 20.0), queue=queues, extra=queues)
def test_more_of_anything_never_asks_for_less(
    load: float, more: float, queue: float, extra: float, policy: Policy, observation: Make
) -> None:
    """Demand grows with arrivals and with the queue."""
    assert policy.load_line is not None
    little = demands.assess(observation(load, 4, waiting=queue), policy.load_line, 1.0, 60.0)
    much = demands.assess(observation(load + more, 4, waiting=queue + extra), policy.load_line, 1.0, 60.0)
    assert much.total >= little.total - 1e-9
    assert much.flow >= little.flow - 1e-9


@pytest.mark.parametrize("load", [1.2, 4.0, 9.0])
def test_it_grows_under_overload_however_it_shows(load: float, policy: Policy, observation: Make, clock: Any) -> None:
    """As arrivals, as tokens, as a queue or as requests in flight."""
    ways: dict[str, dict[str, float]] = {
        "arrivals": {"arrivals": load * 2.0},
        "tokens": {"generation_tokens": load * 500.0},
        "queue": {"waiting": load * 120.0},
        "in flight": {"running_mean": load * 20.0},
    }
    for change in ways.values():
        service = clock(policy, 1)
        service.ticks(observation(0.5, 1, **change), 90)
        assert service.current > 1


def test_the_control_can_fail(policy: Policy, observation: Make, clock: Any) -> None:
    """Control: with the dead band turned inside out the settling property does not hold."""
    from plimsoll_detector.decision import decide

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "SCALE_IN_UTILIZATION", 1.5)
        service = clock(replace(policy, scale_in_stabilization=60.0), 4)
        moves = {service.ticks(observation(4.0, service.current), 15).decision.bounded for _ in range(100)}
    assert len(moves) > 1 or max(moves) * SCALE_OUT_UTILIZATION < 4.0
