"""A wedged replica is replaced: one at a time, none that is young, and never for an old or another diagnosis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_kube.resources import LLM_SERVICE, POD, Manifest
from plimsoll_operator.pods import PodView
from plimsoll_operator.replacement import LEAST_AGE, named, plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD = "2025-12-31T00:00:00Z"


def view(name: str, age: timedelta = timedelta(hours=1), **traits: Any) -> PodView:
    return PodView(name, **{"ready": True, "terminating": False, "created": NOW - age, **traits})


def test_the_named_replica_goes() -> None:
    assert plan(frozenset({"b"}), (view("a"), view("b")), NOW).pod == view("b")


def test_the_oldest_goes_first() -> None:
    pods = (view("a"), view("b", timedelta(hours=2)))
    assert plan(frozenset({"a", "b"}), pods, NOW).pod == pods[1]


def test_a_young_one_is_looked_at_when_it_is_old_enough() -> None:
    found = plan(frozenset({"a"}), (view("a", LEAST_AGE - timedelta(seconds=7)),), NOW)
    assert (found.pod, found.look_again) == (None, 7.0)


@pytest.mark.parametrize("other", [{"terminating": True}, {"ready": False}], ids=["leaves", "starts"])
def test_it_waits_for_one_that_leaves_or_starts(other: dict[str, Any]) -> None:
    assert plan(frozenset({"a"}), (view("a"), view("b", **other)), NOW).pod is None


def test_one_that_finds_no_node_holds_nothing_up() -> None:
    waits = view("b", ready=False, unschedulable="0/3 nodes have a free GPU")
    assert plan(frozenset({"a"}), (view("a"), waits), NOW).pod == view("a")


@pytest.mark.parametrize(
    "status",
    [{}, {"diagnosis": {"kind": "Degraded", "pods": ["a"]}}, {"diagnosis": {"kind": "Stalled"}}],
    ids=["none", "another kind", "no pods"],
)
def test_nothing_is_named(status: dict[str, Any]) -> None:
    assert named(status) == frozenset()


pods = st.lists(
    st.builds(
        view,
        st.sampled_from("abcdef"),
        st.integers(0, 3000).map(lambda seconds: timedelta(seconds=seconds)),
        ready=st.booleans(),
        terminating=st.booleans(),
        unschedulable=st.sampled_from(["", "no node"]),
    ),
    unique_by=lambda pod: pod.name,
).map(tuple)


@given(st.frozensets(st.sampled_from("abcdef")), pods)
def test_only_a_named_old_replica_of_a_settled_service(stalled: frozenset[str], found: tuple[PodView, ...]) -> None:
    gone = plan(stalled, found, NOW).pod
    if gone is not None:
        assert gone.name in stalled
        assert not gone.terminating
        assert NOW - gone.created >= LEAST_AGE
        assert not any(pod.terminating for pod in found)


def run(harness: Any, pod: Manifest) -> None:
    """A pod as its controller and its kubelet write it."""
    harness.kube.put(pod)
    harness.kube.put_status(pod)


def stall(harness: Any, pod: str, kind: str = "Stalled") -> None:
    """What the detector writes."""
    diagnosis = {"kind": kind, "since": "2026-01-01T00:00:00Z", "message": f"{pod} generated no token", "pods": [pod]}
    harness.kube.put_status(LLM_SERVICE.manifest("ml", "chat", status={"diagnosis": diagnosis}), "plimsoll-detector")


def deletions(harness: Any) -> list[tuple[str, str]]:
    return [(kind, name) for verb, kind, name, _ in harness.kube.writes if verb == "delete"]


async def test_the_operator_deletes_it_once_and_says_so(harness: Any, service: Any, pod: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    for name in ("chat-1", "chat-2"):
        run(harness, pod(name, ready=True, creationTimestamp=OLD))
    stall(harness, "chat-1")
    await harness.settle()
    assert deletions(harness) == [("Pod", "chat-1")]
    reasons = {value for key, flat in harness.kube.objects.items() if key[0] == "Event" for value in flat.values()}
    assert {"ReplicaReplaced", "chat-1 is replaced: chat-1 generated no token"} <= reasons
    # The detector is gone and its last word stays: nobody is left whom it names.
    await harness.settle()
    assert len(deletions(harness)) == 1


@pytest.mark.parametrize(("paused", "kind"), [(True, "Stalled"), (False, "Degraded")])
async def test_nothing_is_deleted(harness: Any, service: Any, pod: Any, paused: bool, kind: str) -> None:
    """While the service is paused, or for a replica that is only slow."""
    harness.kube.put(service())
    await harness.settle()
    harness.kube.put(service(paused=paused))
    run(harness, pod("chat-1", ready=True, creationTimestamp=OLD))
    stall(harness, "chat-1", kind)
    await harness.settle()
    assert deletions(harness) == []
    assert harness.kube.see(POD, "ml", "chat-1")


async def test_a_young_one_is_looked_at_again(harness: Any, service: Any, pod: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    run(harness, pod("chat-1", ready=True, creationTimestamp="2026-01-01T00:00:00Z"))
    stall(harness, "chat-1")
    outcome = await harness.reconciler.reconcile(("ml", "chat"))
    assert deletions(harness) == []
    assert outcome.requeue_after is not None
    assert 0 < outcome.requeue_after <= LEAST_AGE.total_seconds()
