"""`decide`, case by case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plimsoll_api.v1alpha1 import DiagnosisKind, ScalingMode
from plimsoll_detector.decision.decide import Reason
from plimsoll_detector.decision.ownership import Acted
from plimsoll_detector.decision.policy import Policy
from plimsoll_detector.decision.state import STARTUP_SECONDS
from plimsoll_detector.observation import Observation, Problem, Quality

Make = Callable[..., Observation]
BLIND = Quality(Problem.STALE, "the last sample is 300 s old", coverage=0.0)


def test_more_load_than_the_line_adds_replicas(policy: Policy, observation: Make, clock: Any) -> None:
    """5.1 replicas' worth at 85 % are six; held for one window because the process is new."""
    service = clock(policy, 2)
    first = service.tick(observation(5.1, 2))
    assert first.decision.reason is Reason.FIRST_WINDOW
    made = service.ticks(observation(5.1, 2), 60)
    assert made.decision.reason is Reason.SCALE_OUT
    assert (made.decision.desired, made.decision.bounded) == (6, 6)


def test_less_load_removes_replicas_after_the_window_and_slowly(policy: Policy, observation: Make, clock: Any) -> None:
    """Not within five minutes, then a quarter at a time, and no further than the load allows."""
    service = clock(policy, 12)
    for _ in range(20):
        assert service.tick(observation(2.0, 12)).decision.bounded == 12
    assert service.tick(observation(2.0, 12)).decision.bounded == 9
    service.ticks(observation(2.0, 9), 15)
    made = service.ticks(observation(2.0, 3), 120)
    assert service.current == 3
    assert made.decision.reason is Reason.WITHIN_BAND


@pytest.mark.parametrize("load", [3.0, 3.39], ids=["in the band", "just under the upper edge"])
def test_within_the_band_nothing_happens(load: float, policy: Policy, observation: Make, clock: Any) -> None:
    """Between the two utilisations."""
    made = clock(policy, 4).ticks(observation(load, 4), 900)
    assert made.decision.reason is Reason.WITHIN_BAND
    assert not made.decision.changes


@pytest.mark.parametrize("load", [0.0, 1.0, 50.0])
def test_blind_holds(load: float, policy: Policy, observation: Make, clock: Any) -> None:
    """Whatever the numbers seem to say."""
    service = clock(policy, 5)
    service.ticks(observation(3.0, 5), 900)
    held = service.current
    made = service.ticks(observation(load, 5, quality=BLIND), 900)
    assert made.diagnosis.kind is DiagnosisKind.BLIND
    assert made.decision.reason is Reason.BLIND
    assert service.current == held
    assert "300 s old" in made.decision.message


def test_after_an_outage_the_surplus_must_last_anew(policy: Policy, observation: Make, clock: Any) -> None:
    """What happened while nobody looked is not known."""
    service = clock(policy, 5)
    service.ticks(observation(4.0, 5), 600)
    service.ticks(observation(1.0, 5, quality=BLIND), 600)
    made = service.ticks(observation(1.0, 5), 240)
    assert made.decision.reason is Reason.SURPLUS_NOT_SETTLED
    assert service.ticks(observation(1.0, 5), 90).decision.reason is Reason.SCALE_IN


def test_pending_replicas_are_supply(policy: Policy, observation: Make, clock: Any) -> None:
    """While replicas start, what piles up asks for no more; what arrives may."""
    service = clock(policy, 2)
    service.ticks(observation(4.0, 2), 75)
    assert service.current == 5
    piled = observation(4.0, 2, waiting=500.0, running_mean=60.0)
    made = service.ticks(piled, 600)
    assert service.current == 5
    assert made.decision.reason is Reason.WAITING_FOR_REPLICAS
    service.tick(replace(observation(8.0, 2), waiting=500.0))
    assert service.current == 10


def test_how_long_a_start_takes_is_learnt_from_starts(policy: Policy, observation: Make, clock: Any) -> None:
    """Not from a replica that was lost and found no GPU for half an hour: a queue could wait as long, then."""
    service = clock(policy, 2)
    service.ticks(observation(1.4, 2), 300)
    service.ticks(observation(1.4, 1, starting=1), 1500)
    assert service.tick(observation(1.4, 2)).memory.decision.startup == STARTUP_SECONDS
    assert service.tick(observation(3.0, 2)).decision.bounded == 4
    service.ticks(observation(3.0, 3, starting=1), 300)
    assert service.tick(observation(3.0, 4)).memory.decision.startup == 300.0


def test_a_queue_on_settled_replicas_asks_for_more(policy: Policy, observation: Make, clock: Any) -> None:
    """Arrivals within the line, yet a queue that stays: the line is lower than predicted."""
    service = clock(policy, 4)
    service.ticks(observation(3.0, 4), 300)
    service.tick(observation(3.0, 4, waiting=60.0))
    assert service.current > 4


def test_a_queue_that_is_worked_off_keeps_the_replicas_until_it_is_gone(
    policy: Policy, observation: Make, clock: Any
) -> None:
    """Twelve starting where two arrive a second: none is added for the queue, and none removed while there is one."""
    service = clock(policy, 8)
    service.ticks(observation(6.0, 8), 600)
    draining = observation(1.0, 8, started=12.0, running_mean=120.0, generation_tokens=3000.0, waiting=500.0)
    made = service.ticks(draining, 900)
    assert service.current == 8
    assert made.diagnosis.kind is DiagnosisKind.OVERLOAD
    assert "500 requests wait" in made.diagnosis.message
    assert "the queue being worked off" in made.decision.message
    service.ticks(observation(1.0, 8), 600)
    assert service.current < 8


def test_longer_requests_need_more_replicas(policy: Policy, observation: Make, clock: Any) -> None:
    """Twice the output at the same rate is twice the work, also before the tokens show it."""
    service = clock(policy, 4)
    service.ticks(observation(3.0, 4), 120)
    service.tick(observation(3.0, 4, output_tokens_mean=500.0))
    assert service.current == 8


@pytest.mark.parametrize(
    ("change", "reason", "bounded"),
    [
        ({"max_replicas": 4}, Reason.SCALE_OUT, 4),
        ({"max_replicas": 2}, Reason.AT_MAXIMUM, 2),
        ({"max_count_replicas": 4}, Reason.SCALE_OUT, 4),
        ({"max_count_replicas": 2}, Reason.AT_MAXIMUM, 2),
        ({"max_count_replicas": 4, "budget_per_hour": 9.6, "replica_cost": 3.2}, Reason.SCALE_OUT, 3),
        ({"budget_per_hour": 9.6, "replica_cost": 3.2}, Reason.SCALE_OUT, 3),
        ({"budget_per_hour": 7.0, "replica_cost": 3.2}, Reason.OVER_BUDGET, 2),
        ({"budget_per_hour": 7.0}, Reason.PRICE_UNKNOWN, 2),
        ({"scale_out_stabilization": 120.0}, Reason.NEED_NOT_SETTLED, 2),
        ({}, Reason.SCALE_OUT, 6),
        ({"mode": ScalingMode.MANUAL}, Reason.MANUAL, 2),
        ({"paused": True}, Reason.PAUSED, 2),
        ({"load_line": None}, Reason.NO_LOAD_LINE, 2),
    ],
)
def test_what_bounds_growth(
    change: dict[str, Any], reason: Reason, bounded: int, policy: Policy, observation: Make, clock: Any
) -> None:
    """Bounds, budget, pace, patience and ownership, each with its reason."""
    service = clock(replace(policy, **change), 2)
    service.follow = False
    made = service.ticks(observation(10.0, 2), 75)
    assert (made.decision.reason, made.decision.bounded) == (reason, bounded)


@pytest.mark.parametrize(
    ("current", "change", "bounded"),
    [
        (30, {}, 20),
        (1, {"min_replicas": 3}, 3),
        (5, {"budget_per_hour": 6.4, "replica_cost": 3.2}, 2),
        (5, {"min_replicas": 4, "budget_per_hour": 6.4, "replica_cost": 3.2}, 2),
        (5, {"budget_per_hour": 1.0, "replica_cost": 3.2}, 1),
    ],
)
def test_bounds_hold_even_when_blind(
    current: int, change: dict[str, Any], bounded: int, policy: Policy, observation: Make, clock: Any
) -> None:
    """They are what a person wrote; no measurement is needed for them."""
    made = clock(replace(policy, **change), current).tick(observation(1.0, 2, quality=BLIND))
    assert (made.decision.bounded, made.decision.reason) == (bounded, Reason.OUT_OF_BOUNDS)


def test_zero_set_by_somebody_stays(policy: Policy, observation: Make, clock: Any) -> None:
    """As with the HPA: 0 replicas switch scaling off."""
    assert clock(policy, 0).tick(observation(0.0, 0)).decision.reason is Reason.AT_ZERO


def test_an_idle_service_keeps_one_unless_something_would_wake_it(
    policy: Policy, observation: Make, clock: Any
) -> None:
    """Scale to zero needs minReplicas 0, an idle time, and a wake signal."""
    zero = replace(policy, min_replicas=0, scale_to_zero_after=600.0)
    kept = clock(zero, 2)
    kept.ticks(observation(0.0, 1), 3600)
    assert kept.current == 1
    stopped = clock(replace(zero, wake_signal=True), 1)
    stopped.ticks(observation(0.0, 1), 585)
    assert stopped.current == 1
    assert stopped.ticks(observation(0.0, 1), 30).decision.reason is Reason.SCALE_TO_ZERO
    assert stopped.current == 0


def test_idle_time_is_time_in_which_it_was_seen_to_be_idle(policy: Policy, observation: Make, clock: Any) -> None:
    """Requests may well be served while Prometheus is down, and a sleep is no reason to sleep again."""
    zero = replace(policy, min_replicas=0, scale_to_zero_after=600.0, wake_signal=True)
    service = clock(zero, 1)
    service.ticks(observation(0.0, 1), 60)
    service.ticks(observation(0.0, 1, quality=BLIND), 600)
    assert service.tick(observation(0.0, 1)).decision.bounded == 1
    service.ticks(observation(0.0, 1), 600)
    assert service.current == 0
    service.ticks(observation(0.0, 0), 3600)
    service.current = 1
    service.ticks(observation(0.0, 1), 585)
    assert service.current == 1


@pytest.mark.parametrize("change", [{"min_replicas": 2}, {"scale_to_zero_after": None}, {"wake_signal": False}])
def test_a_service_that_was_stopped_here_comes_back_when_it_may_not_be(
    change: dict[str, Any], policy: Policy, observation: Make, clock: Any, now: float
) -> None:
    """Nobody else set 0: what allowed it is gone."""
    zero = replace(policy, min_replicas=0, scale_to_zero_after=600.0, wake_signal=True)
    service = clock(zero, 0)
    service.memory = replace(service.memory, decision=replace(service.memory.decision, acted=Acted(now - 60.0, 0)))
    assert service.tick(observation(0.0, 0)).decision.bounded == 0
    service.policy = replace(zero, **change)
    made = service.tick(observation(0.0, 0))
    assert (made.decision.reason, made.decision.bounded) == (Reason.OUT_OF_BOUNDS, service.policy.floor)


def test_a_new_process_does_not_scale_in_before_a_whole_window(policy: Policy, observation: Make, clock: Any) -> None:
    """Killed and restarted at the worst moment: nothing moves for as long as a surplus must last."""
    service = clock(policy, 6)
    for _ in range(20):
        assert service.tick(observation(1.0, 6)).decision.bounded == 6


def test_a_sick_replica_does_not_scale_the_fleet(policy: Policy, observation: Make, clock: Any) -> None:
    """Its queue asks for nothing; what arrives beyond the line still does."""
    service = clock(policy, 4)
    service.ticks(observation(3.0, 4), 300)
    sick = observation(3.0, 4, waiting=200.0)
    stuck = replace(sick.pods[0], generation_tokens=0.0, started=0.0, steps=0.0)
    sick = replace(sick, pods=(stuck, *sick.pods[1:]))
    service.follow = False
    made = service.ticks(sick, 90)
    assert made.diagnosis.kind is DiagnosisKind.STALLED
    assert (made.decision.reason, made.decision.bounded) == (Reason.STALLED, 4)
    made = service.tick(replace(sick, arrivals=12.0))
    assert made.decision.bounded == 8


def test_incomplete_data_removes_nothing(policy: Policy, observation: Make, clock: Any) -> None:
    """Nineteen of twenty replicas have data: enough to add, not to remove."""
    quality = Quality(age=5.0, coverage=0.95, missing=("pod-7",))
    made = clock(policy, 20).ticks(observation(2.0, 20, quality=quality), 900)
    assert (made.decision.reason, made.decision.bounded) == (Reason.INCOMPLETE, 20)


def test_a_long_scale_in_window_does_not_slow_scale_out(policy: Policy, observation: Make, clock: Any) -> None:
    """Each direction has its own patience."""
    service = clock(replace(policy, scale_in_stabilization=86_400.0), 2)
    service.ticks(observation(1.0, 2), 300)
    service.tick(observation(5.0, 2))
    assert service.current == 6
