"""The whole judgement against a toy fleet: does it converge, does it keep still, does it run away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from plimsoll_detector.decision.policy import Policy

Load = Callable[[int], float]


def drive(clock: Any, fleet: Any, policy: Policy, load: Load, seconds: int) -> tuple[Any, list[tuple[int, int]]]:
    """Run a fleet under a load (requests/s at a second); the fleet and every change of its replicas."""
    service = clock(policy, fleet.asked)
    changes: list[tuple[int, int]] = []
    for second in range(seconds):
        fleet.step(load(second))
        if second % int(policy.interval) == 0:
            service.tick(fleet.observe())
            if service.current != fleet.asked:
                changes.append((second, service.current))
                fleet.scale(service.current)
    return fleet, changes


def turns(changes: list[tuple[int, int]], first: int) -> int:
    """How often the direction changed."""
    values = [first, *(after for _, after in changes)]
    steps = [after - before for before, after in pairwise(values)]
    return sum(one * two < 0 for one, two in pairwise(steps))


def test_a_steady_load_needs_one_decision(clock: Any, fleet: Any, policy: Policy) -> None:
    """6 requests/s at 2 a replica: four fit under 85 %, five over 70 %; then nothing for an hour."""
    end, changes = drive(clock, fleet(startup=60), policy, lambda _: 6.0, 3600)
    assert end.asked in (4, 5)
    assert len([at for at, _ in changes if at > 600]) == 0


@pytest.mark.parametrize("startup", [20, 60, 120, 240])
def test_a_flash_crowd_is_met_without_running_away(startup: int, clock: Any, fleet: Any, policy: Policy) -> None:
    """Five times the load within a second: no more than half again the replicas needed, however long they start."""

    def crowd(at: int) -> float:
        return 2.0 if at < 300 else 14.0

    end, changes = drive(clock, fleet(startup=startup, asked=2, serving=2), policy, crowd, 2400)
    needed = 9
    assert max(after for _, after in changes) <= needed * 1.5
    assert end.waiting == 0.0
    assert end.serving >= needed - 1
    assert min(at for at, after in changes if after >= needed) <= 300 + 90


def test_no_replica_goes_while_a_queue_stands(clock: Any, fleet: Any, policy: Policy) -> None:
    """Replicas that start slower than a surplus must last: a crowd's queue keeps them until it has been served."""
    served = fleet(startup=400, asked=2, serving=2)
    queue: list[float] = []

    def crowd(at: int) -> float:
        queue.append(served.waiting)
        return 3.0 if at < 300 else 20.0 if at < 1100 else 0.5

    _, changes = drive(clock, served, replace(policy, max_replicas=4), crowd, 3000)
    fewer = [(after, queue[at]) for at, after in changes if at > 1100]
    assert fewer == [(3, 0.0), (2, 0.0), (1, 0.0)]
    assert queue[1100] > 5000.0


def test_a_slow_decline_is_followed_down(clock: Any, fleet: Any, policy: Policy) -> None:
    """From 16 to 2 requests/s over an hour: down in steps, never up again, nobody waits."""
    end, changes = drive(clock, fleet(asked=10, serving=10), policy, lambda at: max(16.0 - at * 14.0 / 3600, 2.0), 5400)
    assert end.asked == 2
    assert turns(changes, 10) == 0
    assert end.late == 0.0


def test_a_ramp_is_followed_up(clock: Any, fleet: Any, policy: Policy) -> None:
    """Half an hour from 1 to 20 requests/s with a minute's start-up: few requests wait."""
    end, changes = drive(clock, fleet(startup=60), policy, lambda at: min(1.0 + at * 19.0 / 1800, 20.0), 2400)
    assert end.serving >= 12
    assert turns(changes, 1) == 0
    assert end.late / end.total < 0.05


def test_a_wave_costs_few_turns(clock: Any, fleet: Any, policy: Policy) -> None:
    """A load that goes up and down every ten minutes is not chased with every wave."""
    end, changes = drive(clock, fleet(asked=4, serving=4), policy, lambda at: 6.0 if at // 600 % 2 else 4.0, 7200)
    assert turns(changes, 4) <= 12
    assert end.asked >= 3


def test_a_predicted_load_line_that_is_too_high_is_corrected(clock: Any, fleet: Any, policy: Policy) -> None:
    """Replicas carry 1.4 requests/s where 2 were predicted: the queue goes away all the same, and stays away."""
    end, _ = drive(clock, fleet(capacity=1.4, startup=60), policy, lambda _: 8.0, 5400)
    before = end.late
    for _ in range(300):
        end.step(8.0)
    assert end.late == before
    assert 6 <= end.asked <= 12


def test_replicas_that_never_start_are_not_asked_for_again(clock: Any, fleet: Any, policy: Policy) -> None:
    """No GPU is free: the number asked for is what the arrivals need, not what piles up."""
    end, _ = drive(clock, fleet(startup=10_000), policy, lambda _: 8.0, 1500)
    assert end.asked <= 6


def test_a_small_budget_is_never_exceeded(clock: Any, fleet: Any, policy: Policy) -> None:
    """Overloaded for an hour with money for three."""
    poor = replace(policy, budget_per_hour=10.0, replica_cost=3.0)
    end, changes = drive(clock, fleet(), poor, lambda _: 20.0, 3600)
    assert end.asked == 3
    assert max(after for _, after in changes) == 3
