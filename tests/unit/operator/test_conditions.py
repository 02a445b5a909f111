"""Every reason a condition of the operator can have, and when it flips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plimsoll_api.names import OPERATOR_CONDITIONS, ConditionType
from plimsoll_kube.resources import DEPLOYMENT, Manifest
from plimsoll_operator.conditions import Situation, Verdict, evaluate, transitions
from plimsoll_operator.conditions.evaluate import set_condition, verdict
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.errors import BlockedError, InvalidSpecError
from plimsoll_operator.pods import live_pods, pod_view

P = ConditionType.PROGRESSING
A = ConditionType.AVAILABLE


def deployment(**status: Any) -> Manifest:
    return DEPLOYMENT.manifest("ml", "chat-engine", metadata={"generation": 3}, status=status)


@pytest.fixture
def running(recommended: Any, pod: Any) -> Situation:
    """Two of two replicas serve."""
    return Situation(
        generation=1,
        recommendation=recommended(),
        wanted=2,
        deployment=deployment(observedGeneration=3, replicas=2, updatedReplicas=2),
        pods=live_pods([pod("a", ready=True), pod("b", ready=True)]),
    )


def test_all_is_well(running: Situation) -> None:
    found = {kind: verdict(kind, running) for kind in OPERATOR_CONDITIONS}
    assert [(v.status, v.reason) for v in found.values()] == [
        ("True", "Accepted"),
        ("True", "Recommended"),
        ("True", "Serving"),
        ("False", "Complete"),
    ]
    assert found[A].message == "2 of 2 replicas ready"


@pytest.mark.parametrize(
    "reason",
    [
        Reason.INVALID_SPEC,
        Reason.INVALID_POD_TEMPLATE,
        Reason.UNKNOWN_MODEL,
        Reason.MODEL_CONFIG_MISSING,
        Reason.UNKNOWN_ACCELERATOR,
        Reason.NO_ACCELERATOR,
        Reason.NOT_SUPPORTED,
        Reason.INFEASIBLE,
    ],
)
def test_a_refused_spec(reason: Reason) -> None:
    new = Situation(generation=1, refused=InvalidSpecError(reason, "141 GiB do not fit into 80"))
    assert verdict(ConditionType.ACCEPTED, new) == Verdict("False", reason, "141 GiB do not fit into 80")
    assert verdict(ConditionType.CONFIG_RECOMMENDED, new).reason == reason
    assert verdict(A, new) == Verdict("False", "NotCreated", "nothing is created: 141 GiB do not fit into 80")
    assert verdict(P, new).reason == "NotAccepted"


def test_a_refused_change_of_something_that_runs(running: Situation) -> None:
    refused = replace(running, refused=InvalidSpecError(Reason.INFEASIBLE, "too big"))
    assert verdict(ConditionType.CONFIG_RECOMMENDED, refused).reason == "Kept"
    assert verdict(A, refused).reason == "Serving"
    assert verdict(P, refused).message == "what runs keeps its configuration until the spec changes: too big"


@pytest.mark.parametrize(
    ("reason", "blocked"),
    [(Reason.NAME_TAKEN, "Service chat exists"), (Reason.REFUSED, "the API server refuses Service chat")],
)
def test_blocked(running: Situation, reason: Reason, blocked: str) -> None:
    stuck = replace(running, blocked=BlockedError(reason, blocked, 60.0))
    assert verdict(P, stuck) == Verdict("False", reason, blocked)
    assert verdict(A, replace(stuck, deployment=None)) == Verdict("False", "NotCreated", blocked)


def test_pods_that_admission_refuses(running: Situation) -> None:
    said = 'pods "chat-engine-7d9" is forbidden: exceeded quota: gpus'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    refused = replace(running, pods=(), deployment=deployment(observedGeneration=3, conditions=[failure]))
    assert verdict(P, refused) == Verdict("False", "PodsRefused", f"0 of 2 replicas ready: {said}")
    assert verdict(A, refused) == Verdict("False", "NoReplicaReady", f"0 of 2 replicas ready: {said}")
    assert verdict(P, replace(running, deployment=refused.deployment)).reason != "PodsRefused"


def test_paused_and_not_yet_created(running: Situation) -> None:
    assert verdict(P, replace(running, paused=True)).reason == "Paused"
    assert verdict(A, replace(running, deployment=None)).reason == "NotCreated"
    assert verdict(ConditionType.CONFIG_RECOMMENDED, Situation(generation=1)).reason == "NotAccepted"


def test_scaled_to_zero(running: Situation) -> None:
    empty = replace(running, wanted=0, pods=(), deployment=deployment(observedGeneration=3))
    assert verdict(A, empty) == Verdict("False", "ScaledToZero", "0 replicas are wanted")
    assert verdict(P, empty).reason == "Complete"


def test_starting_and_draining(running: Situation, pod: Any) -> None:
    starting = replace(running, pods=live_pods([pod("a", ready=True), pod("b")]))
    assert verdict(P, starting) == Verdict("True", "Starting", "1 of 2 replicas ready")
    leaving = pod("c", ready=True, deletionTimestamp="2026-01-01T00:00:00Z")
    draining = replace(running, pods=live_pods([pod("a", ready=True), pod("b", ready=True), leaving]))
    assert verdict(P, draining).reason == "Draining"
    assert "1 replicas finish their streams" in verdict(P, draining).message


def test_rolling_out(running: Situation) -> None:
    rolling = replace(running, deployment=deployment(observedGeneration=3, replicas=3, updatedReplicas=1))
    assert verdict(P, rolling).reason == "RollingOut"
    unseen = replace(running, deployment=deployment(observedGeneration=2, replicas=2, updatedReplicas=2))
    assert verdict(P, unseen).reason == "RollingOut"


def test_unschedulable_quotes_the_scheduler(running: Situation, pod: Any) -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    pending = pod("b", status={"phase": "Pending", "conditions": conditions})
    found = verdict(P, replace(running, pods=live_pods([pod("a", ready=True), pending])))
    assert found == Verdict("False", "Unschedulable", f"1 of 2 replicas find no node: {message}")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}, "ImagePullFailed"),
        ({"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}, "OutOfMemory"),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "torch.OutOfMemoryError: CUDA out of memory."}},
            },
            "OutOfGpuMemory",
        ),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "No available memory for the cache blocks."}},
            },
            "OutOfGpuMemory",
        ),
        ({"state": {"terminated": {"exitCode": 1, "message": "unrecognized arguments: --foo"}}}, "StartFailed"),
    ],
)
def test_an_engine_that_cannot_start(running: Situation, pod: Any, state: dict[str, Any], reason: str) -> None:
    failing = pod("a", status={"containerStatuses": [{"name": "engine", "restartCount": 3, **state}]})
    situation = replace(running, pods=live_pods([failing]))
    found = verdict(P, situation)
    assert (found.status, found.reason) == ("False", reason)
    assert found.message.startswith("a: ")
    assert verdict(A, situation).reason == "NoReplicaReady"
    assert verdict(A, situation).message.startswith("0 of 2 replicas ready: a: ")


def test_where_the_cause_is_when_the_last_words_do_not_say_it(running: Situation, pod: Any) -> None:
    said = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    ended = {"name": "engine", "state": {"terminated": {"exitCode": 1, "message": said}}}
    found = verdict(P, replace(running, pods=live_pods([pod("a", status={"containerStatuses": [ended]})])))
    assert found.reason == "StartFailed"
    assert found.message.endswith("; kubectl logs a -c engine --previous shows it")


def test_a_replica_of_an_older_revision_that_cannot_start_is_being_replaced(running: Situation, pod: Any) -> None:
    ended = {"name": "engine", "state": {"terminated": {"exitCode": 1, "message": "no"}}}
    old = pod("a", status={"containerStatuses": [ended]}, annotations={"plimsoll.dev/revision": "r1"})
    rolling = replace(running, pods=live_pods([old, pod("b")]), revision="r2")
    assert verdict(P, rolling).reason == "Starting"
    assert verdict(A, rolling).message.startswith("0 of 2 replicas ready: a: ")
    assert verdict(P, replace(rolling, revision="r1")).reason == "StartFailed"


def test_every_reason_is_tested() -> None:
    """The list that the tests above work through is the whole list."""
    with open(__file__, encoding="utf-8") as source:
        text = source.read()
    untested = [reason for reason in Reason if str(reason) not in text and reason.name not in text]
    assert untested == []


def test_a_sidecars_failure_is_not_the_engines(pod: Any) -> None:
    ended = {"name": "proxy", "state": {"terminated": {"exitCode": 1}}}
    assert pod_view(pod("a", status={"containerStatuses": [ended]})).failure is None


def test_pods_that_ended_do_not_count(pod: Any) -> None:
    assert live_pods([pod("a", status={"phase": "Failed"}), pod("b", status={"phase": "Succeeded"})]) == ()


def test_the_time_moves_only_with_the_status() -> None:
    one = set_condition(None, P, Verdict("True", "Starting", "0 of 2"), 1, "t1")
    two = set_condition(one, P, Verdict("True", "RollingOut", "1 of 2"), 2, "t2")
    three = set_condition(two, P, Verdict("False", "Complete", "2 of 2"), 2, "t3")
    assert [c["lastTransitionTime"] for c in (one, two, three)] == ["t1", "t1", "t3"]
    assert [c["observedGeneration"] for c in (one, two, three)] == [1, 2, 2]


def test_only_transitions_are_told(running: Situation, pod: Any) -> None:
    before = evaluate(running, [], "t1")
    one_ready = replace(running, pods=live_pods([pod("a", ready=True), pod("b")]))
    after = evaluate(one_ready, before, "t2")
    assert [(c.type, c.verdict.reason, c.event_type) for c in transitions(before, after)] == [(P, "Starting", "Normal")]
    assert transitions(after, evaluate(one_ready, after, "t3")) == []
    gone = evaluate(replace(running, pods=()), after, "t4")
    assert [(c.type, c.verdict.reason, c.event_type) for c in transitions(after, gone)] == [
        (A, "NoReplicaReady", "Warning")
    ]


def test_one_refusal_is_told_once() -> None:
    new = Situation(generation=1, refused=InvalidSpecError(Reason.INFEASIBLE, "too big"))
    told = transitions([], evaluate(new, [], "t1"))
    assert [(c.type, c.event_type) for c in told] == [(ConditionType.ACCEPTED, "Warning")]
