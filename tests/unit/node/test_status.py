"""Phases and conditions from container states."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.sandbox.node.status import (
    ContainerView,
    PodView,
    Running,
    State,
    Terminated,
    Waiting,
    phase,
    pod_status,
    timestamp,
)

OK = Terminated(0, "Completed", "", 1, 2)
BAD = Terminated(1, "Error", "", 1, 2)
UP = Running(1)
NEW = Waiting("ContainerCreating")
LOOP = Waiting("CrashLoopBackOff")


def container(state: State, **fields: Any) -> ContainerView:
    """A container in a state."""
    return ContainerView("c", "image", state=state, **fields)


def pod(*containers: ContainerView, init: tuple[ContainerView, ...] = (), **fields: Any) -> PodView:
    """A pod of containers."""
    return PodView(init, containers, "127.0.0.5", "127.0.0.1", 1000.0, **fields)


@pytest.mark.parametrize(
    ("view", "policy", "expected"),
    [
        (pod(container(NEW)), "Always", "Pending"),
        (pod(container(UP)), "Always", "Running"),
        (pod(container(UP), container(NEW)), "Always", "Pending"),
        (pod(container(UP), container(OK)), "Never", "Running"),
        (pod(container(OK)), "Always", "Running"),
        (pod(container(OK)), "OnFailure", "Succeeded"),
        (pod(container(OK)), "Never", "Succeeded"),
        (pod(container(BAD)), "Never", "Failed"),
        (pod(container(BAD)), "OnFailure", "Running"),
        (pod(container(OK), container(BAD)), "Never", "Failed"),
        (pod(container(LOOP, last=BAD)), "Always", "Running"),
        (pod(container(NEW), init=(container(UP),)), "Always", "Pending"),
        (pod(container(NEW), init=(container(BAD),)), "Never", "Failed"),
        (pod(container(NEW), init=(container(BAD),)), "Always", "Pending"),
        (pod(container(UP), init=(container(OK),)), "Always", "Running"),
        (pod(container(UP), init=(container(UP, sidecar=True, started=True),)), "Always", "Running"),
        (pod(container(NEW), init=(container(UP, sidecar=True),)), "Always", "Pending"),
        (pod(container(OK), ended=True), "Always", "Succeeded"),
        (pod(container(BAD), ended=True), "Always", "Failed"),
        (pod(container(NEW), ended=True), "Always", "Failed"),
        (pod(container(UP), failed=("Evicted", "why")), "Always", "Failed"),
    ],
)
def test_phase(view: PodView, policy: str, expected: str) -> None:
    """The kubelet's rules."""
    assert phase(view, policy) == expected


def manifest(**status: Any) -> dict[str, Any]:
    """A pod as the API server has it."""
    return {"metadata": {"name": "p", "generation": 3}, "spec": {"containers": []}, "status": status}


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Condition type to status and reason."""
    return {c["type"]: (c["status"], c.get("reason", "")) for c in status["conditions"]}


def test_ready_needs_every_container_and_every_gate() -> None:
    """ContainersReady is the containers; Ready is the gates, too."""
    gated = manifest()
    gated["spec"]["readinessGates"] = [{"conditionType": "x/lb"}]
    ready, unready = container(UP, ready=True), container(UP)
    assert conditions(pod_status(gated, pod(ready, unready), 5))["ContainersReady"] == ("False", "ContainersNotReady")
    status = pod_status(gated, pod(ready), 5)
    assert conditions(status)["ContainersReady"][0] == "True"
    assert conditions(status)["Ready"] == ("False", "ReadinessGatesNotReady")
    gated["status"]["conditions"] = [{"type": "x/lb", "status": "True"}]
    status = pod_status(gated, pod(ready), 5)
    assert conditions(status)["Ready"][0] == "True"
    assert conditions(status)["x/lb"][0] == "True"  # somebody else's: kept


def test_transition_times_move_only_with_the_status() -> None:
    """A repeated status is the same, so that nothing is written."""
    view = pod(container(UP, ready=True))
    first = pod_status(manifest(), view, 100)
    again = pod_status(manifest(**first), view, 200)
    assert again == first
    changed = pod_status(manifest(**first), pod(container(UP)), 300)
    since = {c["type"]: c["lastTransitionTime"] for c in changed["conditions"]}
    assert since["Ready"] == timestamp(300)
    assert since["Initialized"] == timestamp(100)


states = st.sampled_from([OK, BAD, UP, NEW, LOOP])


@given(st.lists(st.builds(container, states, last=st.sampled_from([None, OK, BAD])), min_size=1, max_size=4))
def test_a_pod_with_a_running_container_has_not_ended(views: list[ContainerView]) -> None:
    """Neither Succeeded nor Failed while anything runs; and ended whenever nothing of a Never pod can go on."""
    for policy in ("Always", "OnFailure", "Never"):
        result = phase(pod(*views), policy)
        if any(isinstance(view.state, Running) for view in views):
            assert result in ("Running", "Pending")
    if all(isinstance(view.state, Terminated) for view in views):
        assert phase(pod(*views), "Never") == ("Failed" if any(v.state == BAD for v in views) else "Succeeded")
        assert phase(pod(*views), "Always") == "Running"
