"""Conditions and status: what they say, when they are worth a write, and what a new process reads back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plimsoll_api.v1alpha1 import LLMServiceSpec, LLMServiceStatus
from plimsoll_detector import status as statuses
from plimsoll_detector.decision.ownership import Acted, Standing
from plimsoll_detector.decision.policy import Policy
from plimsoll_detector.judgement import Judgement
from plimsoll_detector.observation import Latency, Observation, Problem, Quality
from plimsoll_detector.service import Rules, Service, read

Make = Callable[..., Observation]

PREDICTED = {
    "ttft": "300ms",
    "tpot": "40ms",
    "e2e": "15s",
    "loadLineRequestsPerSecond": "2",
    "loadLineConcurrency": "20",
    "outputTokensPerSecond": "500",
}
CONFIG = {"accelerator": "NVIDIA-L4", "tensorParallelSize": 2, "pipelineParallelSize": 1}


def make_service(
    status: dict[str, Any] | None = None, replicas: int = 4, owner: str | None = None, **spec: Any
) -> Service:
    """A service as the API server has it; `owner` wrote its replicas."""
    owned = {"manager": owner, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    manifest = {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {
            "namespace": "ml",
            "name": "chat",
            "uid": "u",
            "generation": 3,
            "resourceVersion": "7",
            "managedFields": [owned] if owner else [],
        },
        "spec": {"model": {"uri": "hf://org/model"}, "replicas": replicas, **spec},
        "status": {"recommendation": {"predicted": PREDICTED, "config": CONFIG}, **(status or {})},
    }
    return read(manifest, LLMServiceSpec.model_validate(manifest["spec"]), Rules(60.0, 15.0))


@pytest.fixture
def judge(clock: Any) -> Callable[..., Judgement]:
    """The judgement of a service after some seconds of the same observation."""

    def judged(service: Service, observation: Observation, seconds: float = 120.0) -> Judgement:
        ticking = clock(service.policy, service.current)
        ticking.follow = False
        made: Judgement = ticking.ticks(observation, seconds)
        return made

    return judged


Judge = Callable[..., Judgement]


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason by type."""
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


@pytest.mark.parametrize(
    ("spec", "load", "change", "expected"),
    [
        ({}, 3.0, {}, {"MetricsAvailable": ("True", "Fresh"), "ScalingActive": ("True", "Active")}),
        ({}, 3.0, {}, {"ObjectivesMet": ("True", "TargetsMet"), "Degraded": ("False", "ReplicasAlike")}),
        (
            {},
            3.0,
            {"latencies": {"ttft": Latency(3.0, 2.0, 0.8), "tpot": Latency(0.2, 0.1, 0.5)}},
            {"ObjectivesMet": ("False", "TTFTAboveTarget")},
        ),
        ({}, 0.0, {"requests": 0.0}, {"ObjectivesMet": ("Unknown", "NoTraffic")}),
        ({}, 0.1, {"requests": 3.0}, {"ObjectivesMet": ("Unknown", "FewRequests")}),
        (
            {},
            3.0,
            {"quality": Quality(Problem.NOT_A_NUMBER, "NaN or infinity from a", coverage=0.0)},
            {
                "MetricsAvailable": ("False", "NotANumber"),
                "ScalingActive": ("False", "Blind"),
                "ObjectivesMet": ("Unknown", "MetricsUnavailable"),
                "Degraded": ("Unknown", "MetricsUnavailable"),
            },
        ),
        ({"scaling": {"mode": "Manual"}}, 3.0, {}, {"ScalingActive": ("False", "ManualMode")}),
        ({"scaling": {"mode": "Recommend"}}, 3.0, {}, {"ScalingActive": ("False", "RecommendMode")}),
        ({"paused": True}, 3.0, {}, {"ScalingActive": ("False", "Paused")}),
        (
            {"scaling": {"minReplicas": 0, "scaleToZeroAfter": "10m"}},
            3.0,
            {},
            {"ScalingActive": ("True", "KeepsLastReplica")},
        ),
    ],
)
def test_conditions(
    spec: dict[str, Any],
    load: float,
    change: dict[str, Any],
    expected: dict[str, tuple[str, str]],
    judge: Judge,
    observation: Make,
    now: float,
) -> None:
    """Every reason has a case."""
    service = make_service(**spec)
    made = judge(service, observation(load, 4, **change))
    said = conditions(statuses.build(service, made, acted=False, now=now))
    assert {kind: said[kind] for kind in expected} == expected


def test_the_status_is_one_the_api_takes(judge: Judge, observation: Make, now: float) -> None:
    """Overloaded, with history and contributions: it fits the model, so it fits the schema made of it."""
    service = make_service()
    made = judge(service, observation(9.0, 4, waiting=30.0))
    status = statuses.build(service, made, acted=True, now=now)
    parsed = LLMServiceStatus.model_validate(status)
    assert parsed.diagnosis is not None
    assert parsed.diagnosis.kind.value == "Overload"
    assert parsed.history[0].after > parsed.history[0].before == 4
    assert parsed.decision is not None
    assert parsed.observed is not None
    assert parsed.observed.ttft == "400ms"
    assert parsed.observed.load_line == "2"


def test_history_keeps_the_newest_twenty(judge: Judge, observation: Make, now: float) -> None:
    """Newest first."""
    old = [{"at": "2026-01-01T00:00:00Z", "before": 1, "after": 2, "reason": "ScaleOut", "message": ""}] * 20
    service = make_service({"history": old})
    status = statuses.build(service, judge(service, observation(9.0, 4)), acted=True, now=now)
    assert len(status["history"]) == 20
    assert status["history"][0]["before"] == 4


def test_noise_is_not_worth_a_write_and_a_verdict_is(judge: Judge, observation: Make, now: float) -> None:
    """The same verdicts with other numbers wait; another verdict does not; the same numbers never are."""
    service = make_service()
    first = statuses.build(service, judge(service, observation(3.0, 4)), acted=False, now=now)
    assert statuses.write_needed({}, first, None, now, interval=15.0)
    again = make_service(first)
    same = statuses.build(again, judge(again, observation(3.0, 4)), acted=False, now=now + 600)
    assert not statuses.write_needed(first, same, now, now + 600, interval=15.0)
    noisy = statuses.build(again, judge(again, observation(3.2, 4)), acted=False, now=now + 10)
    assert not statuses.write_needed(first, noisy, now, now + 10, interval=15.0)
    assert statuses.write_needed(first, noisy, now, now + 60, interval=15.0)
    blind = observation(3.0, 4, quality=Quality(Problem.STALE, "old", coverage=0.0))
    other = statuses.build(again, judge(again, blind), acted=False, now=now + 1)
    assert statuses.write_needed(first, other, now, now + 1, interval=15.0)


def test_a_condition_keeps_its_time_while_its_status_holds(judge: Judge, observation: Make, now: float) -> None:
    """Also when its reason changes."""
    service = make_service()
    first = statuses.build(service, judge(service, observation(3.0, 4)), acted=False, now=now)
    again = make_service(first)
    missed = observation(3.0, 4, latencies={"ttft": Latency(3.0, 2.0, 0.8)})
    second = statuses.build(again, judge(again, missed), acted=False, now=now + 60)
    before = {one["type"]: one["lastTransitionTime"] for one in first["conditions"]}
    after = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert {kind for kind in before if before[kind] != after[kind]} == {"ObjectivesMet"}


def test_a_new_process_goes_on_where_the_last_one_was(judge: Judge, observation: Make, now: float) -> None:
    """Diagnosis with its time, correction of the load line, time of the last action."""
    service = make_service()
    made = judge(service, observation(9.0, 4, waiting=30.0))
    state = replace(made.memory.decision, line_ratio=0.7)
    made = replace(made, memory=replace(made.memory, decision=state))
    status = statuses.build(service, made, acted=True, now=now)
    memory = statuses.restore(make_service(status))
    assert memory.diagnosis.kind is made.diagnosis.kind
    assert memory.diagnosis.since == pytest.approx(made.diagnosis.since, abs=1.0)
    assert memory.decision.line_ratio == pytest.approx(0.7)
    assert memory.decision.acted == Acted(now, made.decision.bounded)
    assert memory.decision.first_seen is None


HISTORY = {"history": [{"at": "2026-01-01T00:00:00Z", "before": 3, "after": 4, "reason": "ScaleOut", "message": ""}]}
HPA = "kube-controller-manager"


@pytest.mark.parametrize(
    ("owner", "silent", "standing"),
    [
        (HPA, 60.0, Standing.CONTENDED),
        (HPA, 3600.0, Standing.FREE),
        ("kubectl", 60.0, Standing.OBEYED),
        ("kubectl", 900.0, Standing.FREE),
        (None, 3600.0, Standing.FREE),
    ],
)
def test_a_new_process_yields_for_no_longer_than_the_last_one(
    owner: str | None, silent: float, standing: Standing, observation: Make, clock: Any
) -> None:
    """A foreign number that stands is no new write: the half hour is not begun anew, and nothing was overwritten."""
    service = make_service(HISTORY, owner=owner)
    fields = service.manifest["metadata"]["managedFields"]
    first = clock(service.policy, 4, memory=statuses.restore(service), managed_fields=fields, follow=False)
    status: dict[str, Any] = HISTORY
    for _ in range(int(silent / 15)):
        at = first.now
        made = first.tick(observation(3.0, 4))
        status = {**status, **statuses.build(make_service(status, owner=owner), made, acted=False, now=at)}
    again = make_service(status, owner=owner)
    second = clock(again.policy, 4, memory=statuses.restore(again), managed_fields=fields, now=first.now)
    made = second.tick(observation(3.0, 4))
    assert made.ownership.standing is standing
    assert len(made.memory.decision.ownership.strikes) <= len(first.memory.decision.ownership.strikes)


def test_a_correction_is_read_back_whatever_the_line_is_now(judge: Judge, observation: Make, now: float) -> None:
    """It is a ratio: a recommendation that changed in between does not change it."""
    service = make_service()
    made = judge(service, observation(3.0, 4))
    state = replace(made.memory.decision, line_ratio=0.7)
    status = statuses.build(service, replace(made, memory=replace(made.memory, decision=state)), acted=False, now=now)
    line = {"predicted": {**PREDICTED, "loadLineRequestsPerSecond": "8"}, "config": CONFIG}
    restored = statuses.restore(make_service({**status, "recommendation": line}))
    assert restored.decision.line_ratio == pytest.approx(0.7)


def test_the_load_line_is_of_the_lengths_it_was_predicted_for() -> None:
    """Not of those in a spec that was refused since."""
    long = {"inputTokens": {"mean": 9000}}
    of_its_own = {"recommendation": {"predicted": {**PREDICTED, "inputTokensMean": "512"}, "config": CONFIG}}
    known, unknown = make_service(of_its_own, workload=long), make_service(workload=long)
    assert known.policy.load_line is not None
    assert unknown.policy.load_line is not None
    assert known.policy.load_line.input_tokens_mean == 512.0
    assert unknown.policy.load_line.input_tokens_mean == 9000.0


def test_a_manual_service_has_a_diagnosis_and_no_decision(judge: Judge, observation: Make, now: float) -> None:
    """What it says would be nobody's to follow."""
    service = make_service(scaling={"mode": "Manual"})
    status = statuses.build(service, judge(service, observation(9.0, 4)), acted=False, now=now)
    assert status["diagnosis"]["kind"] == "Overload"
    assert "decision" not in status


@pytest.mark.parametrize(
    ("status", "spec", "cost"),
    [
        ({"cost": {"perHour": "25.6", "gpus": 8}}, {}, 6.4),
        ({}, {"accelerators": [{"product": "NVIDIA-L4", "hourlyCost": "0.8"}]}, 1.6),
        ({}, {"accelerators": [{"product": "NVIDIA-A10", "hourlyCost": "0.8"}]}, None),
        ({"cost": {"perHour": "0", "gpus": 0}}, {}, None),
    ],
)
def test_what_a_replica_costs(status: dict[str, Any], spec: dict[str, Any], cost: float | None) -> None:
    """From what the operator says the service costs, or else from the spec's price; two GPUs a replica here."""
    policy: Policy = make_service(status, **spec).policy
    assert policy.replica_cost == (None if cost is None else pytest.approx(cost))


def test_max_count_bounds_the_replicas() -> None:
    """Nine GPUs are four replicas of two; of another accelerator they bound nothing."""
    for product, most in (("NVIDIA-L4", 4), ("NVIDIA-L40S", None)):
        policy = make_service(accelerators=[{"product": product, "maxCount": 9}]).policy
        assert policy.max_count_replicas == most


def test_without_a_recommendation_there_is_no_load_line() -> None:
    """Hence nothing is decided."""
    manifest = make_service().manifest
    bare = {**manifest, "status": {}}
    spec = LLMServiceSpec.model_validate(manifest["spec"])
    assert read(bare, spec, Rules(60.0, 15.0)).policy.load_line is None


def test_nothing_observed_is_left_out(judge: Judge, observation: Make, now: float) -> None:
    """Applied empty, `observed` would become null, which the API server refuses: then no status could be written."""
    service = make_service()
    unknown = replace(service, policy=replace(service.policy, load_line=None))
    blind = observation(quality=Quality(Problem.UNREACHABLE, "no answer", coverage=0.0))
    written = statuses.build(unknown, judge(unknown, blind), acted=False, now=now)
    assert "observed" not in written
    assert written["diagnosis"]["kind"] == "Blind"
