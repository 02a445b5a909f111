"""When to yield to somebody else who sets the replicas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plimsoll_api.v1alpha1 import ScalingMode
from plimsoll_detector.decision.decide import Reason
from plimsoll_detector.decision.ownership import CONTENTION_SECONDS, Acted, foreign_manager
from plimsoll_detector.decision.policy import Policy
from plimsoll_detector.observation import Observation

Make = Callable[..., Observation]


def entry(manager: str, *, field: str = "f:replicas") -> dict[str, Any]:
    """One entry of managedFields, as /scale leaves it: without a time."""
    fields = {"f:spec": {field: {}}}
    return {"manager": manager, "operation": "Update", "subresource": "scale", "fieldsV1": fields}


@pytest.mark.parametrize(
    ("entries", "foreign"),
    [
        ([], None),
        ([entry("kubectl", field="f:model")], None),
        ([entry("plimsoll-operator-seed")], None),
        ([entry("plimsoll-detector")], None),
        ([entry("kubectl"), entry("plimsoll-detector")], None),
        ([entry("kubectl")], "kubectl"),
        ([entry("argocd"), entry("kube-controller-manager")], "kube-controller-manager"),
    ],
)
def test_who_else_owns_the_replicas(entries: list[dict[str, Any]], foreign: str | None) -> None:
    """Only owners of spec.replicas count, and where we are one it is ours."""
    assert foreign_manager(entries) == foreign


@pytest.fixture
def busy(policy: Policy, observation: Make, clock: Any) -> Any:
    """A service that has just been scaled out from 2 to 4 by us."""
    service = clock(policy, 2)
    service.ticks(observation(3.0, 2), 75)
    assert service.current == 4
    acted = Acted(service.now - policy.interval, service.current)
    state = replace(service.memory.decision, acted=acted)
    service.memory = replace(service.memory, decision=state)
    return service


def act(service: Any, made: Any) -> None:
    """Note that the loop wrote a decision down."""
    if made.decision.changes:
        acted = Acted(service.now - service.policy.interval, service.current)
        state = replace(service.memory.decision, acted=acted)
        service.memory = replace(service.memory, decision=state)
        service.managed_fields = [entry("plimsoll-detector")]


def test_an_hpa_is_yielded_to_at_once(busy: Any, observation: Make) -> None:
    """It will write again, so nothing is gained by waiting for that."""
    busy.current, busy.managed_fields = 2, [entry("kube-controller-manager")]
    made = busy.ticks(observation(3.0, 2), 600)
    assert made.decision.reason is Reason.CONTENDED
    assert "kube-controller-manager" in made.decision.message
    assert busy.current == 2


def test_an_hpa_that_was_removed_is_forgotten(busy: Any, observation: Make) -> None:
    """Nobody has to clean up managedFields: after half an hour of silence scaling goes on."""
    busy.current, busy.managed_fields = 2, [entry("kube-controller-manager")]
    busy.ticks(observation(3.0, 2), CONTENTION_SECONDS - 30)
    assert busy.current == 2
    busy.ticks(observation(3.0, 2), 60)
    assert busy.current > 2


def test_a_persons_number_is_obeyed_and_then_goes_on(busy: Any, observation: Make) -> None:
    """`kubectl scale` holds for the scale-in window of five minutes."""
    busy.current, busy.managed_fields = 2, [entry("kubectl")]
    made = busy.ticks(observation(3.0, 2), 285)
    assert made.decision.reason is Reason.OBEYED
    assert busy.current == 2
    busy.ticks(observation(3.0, 2), 45)
    assert busy.current > 2


def test_a_person_is_still_bound(busy: Any, observation: Make) -> None:
    """Bounds hold for everybody."""
    busy.current, busy.managed_fields = 50, [entry("kubectl")]
    assert busy.tick(observation(3.0, 2)).decision.reason is Reason.OUT_OF_BOUNDS


def test_whoever_overwrites_twice_is_a_contender(busy: Any, observation: Make) -> None:
    """Also with a number that was seen before; and after half an hour of silence it is over."""
    for _ in range(2):
        busy.current, busy.managed_fields = 2, [entry("argocd")]
        made = busy.tick(observation(3.0, 2))
        while made.decision.reason is Reason.OBEYED:
            made = busy.tick(observation(3.0, 2))
        act(busy, made)
    assert made.decision.reason is Reason.CONTENDED
    busy.ticks(observation(3.0, 2), CONTENTION_SECONDS)
    assert busy.current > 2


def test_a_person_who_changes_their_mind_is_none(busy: Any, observation: Make) -> None:
    """Two numbers in a row overwrite one decision of ours, not two."""
    for replicas in (2, 3, 2, 3):
        busy.current, busy.managed_fields = replicas, [entry("kubectl")]
        assert busy.tick(observation(3.0, 2)).decision.reason is Reason.OBEYED


@pytest.mark.parametrize("manager", ["keda-operator", "gateway"])
def test_waking_a_stopped_service_is_what_zero_waits_for(
    manager: str, policy: Policy, observation: Make, clock: Any
) -> None:
    """Neither contention nor a number to be obeyed, however often; the burst that woke it is met at once."""
    service = clock(replace(policy, min_replicas=0, scale_to_zero_after=300.0, wake_signal=True), 1)
    for _ in range(3):
        while service.current:
            act(service, service.tick(observation(0.0, service.current)))
        service.ticks(observation(0.0, 0), 600)
        service.current, service.managed_fields = 1, [entry(manager)]
        service.ticks(observation(0.0, 0, starting=1), 60)
        act(service, service.tick(observation(4.0, 1)))
        assert service.current > 2
    assert service.memory.decision.ownership.strikes == ()


def test_a_waker_that_goes_on_to_scale_is_a_contender(policy: Policy, observation: Make, clock: Any) -> None:
    """The HPA of a KEDA object, once the service is awake."""
    service = clock(replace(policy, min_replicas=0, scale_to_zero_after=300.0, wake_signal=True), 1)
    while service.current:
        act(service, service.tick(observation(0.0, 1)))
    service.current, service.managed_fields = 1, [entry("keda-operator")]
    assert service.tick(observation(0.5, 1)).decision.reason is Reason.WITHIN_BAND
    service.current, service.managed_fields = 3, [entry("kube-controller-manager")]
    assert service.tick(observation(0.5, 3)).decision.reason is Reason.CONTENDED


def test_the_load_line_is_measured_whoever_scales(policy: Policy, observation: Make, clock: Any) -> None:
    """In mode Manual, too: what replicas carry does not depend on who asked for them."""
    service = clock(replace(policy, mode=ScalingMode.MANUAL), 2)
    seen = observation(1.4, 2)
    full = replace(seen, pods=tuple(replace(pod, waiting_floor=3.0) for pod in seen.pods))
    assert service.ticks(full, 600).memory.decision.line_ratio == pytest.approx(0.7, abs=0.01)
