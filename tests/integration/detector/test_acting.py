"""What the detector writes: replicas, status, Events; when it writes nothing; and who takes over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plimsoll_api import names

pytestmark = [pytest.mark.api_server, pytest.mark.slow, pytest.mark.xdist_group("control_plane")]

Start = Callable[..., Any]
New = Callable[[str], Any]
DETECTOR_USER = "system:serviceaccount:plimsoll-system:plimsoll-detector"
WRITES = frozenset({"create", "update", "patch", "delete"})
SPELLS = 10
"""Of 12 s each, within the time that the test is given."""
LEASE = "--lease-duration=10s"
"""Short beside the default, so that the standby need not wait long; its leader may stand still for two thirds of it."""


def writes(audit_log: Path, since: int, service: str) -> list[str]:
    """The detector's writes about one service (its Events, too) in the audit log, from a line on."""
    found = []
    for line in entries(audit_log)[since:]:
        entry = json.loads(line)
        reference = entry.get("objectRef", {})
        about = str(reference.get("name", "")).startswith(service)
        if entry["user"]["username"] == DETECTOR_USER and entry["verb"] in WRITES and about:
            found.append(f"{entry['verb']} {reference['resource']}/{reference.get('subresource', '')}")
    return found


def entries(audit_log: Path) -> list[str]:
    """The lines of the audit log; the last may still be being written."""
    return audit_log.read_text().split("\n")[:-1]


def writes_while_measured(service: Any, running: Any, audit_log: Path) -> list[str]:
    """The detector's writes about one service in a spell of ticks in all of which there was data of it.

    On a busy machine a scrape or a query is late now and then: the detector is blind then, and writes that it is.
    """
    for _ in range(SPELLS):
        measured = service.wait_condition("MetricsAvailable", "True", "Fresh", running)
        running.wait_ticks(4)
        before = len(entries(audit_log))
        running.wait_ticks(20)
        found = writes(audit_log, before, service.name)
        if service.condition("MetricsAvailable") == measured:  # with the time of its last transition
            return found
    pytest.fail(f"{service.name}: blind now and then in {SPELLS} spells of 24 ticks\n{running.end_of_log()}")


@pytest.mark.timeout(480)
def test_services_side_by_side(new_service: New, detector: Start, identities: Any, kubectl: Any) -> None:
    """Five services under one detector: overloaded, idle, contended, set by a person, and only recommended."""
    overloaded, contended, set_by_hand = (new_service(name).create(1) for name in ("busy", "contended", "by-hand"))
    recommended = new_service("recommended").create(1, mode="Recommend")
    # Idle from the first scrape on: a request that was seen once is in the mean lengths for five windows.
    idle = new_service("idle").create(1, says={"rate": 0.0, "running": 0.0})
    set_by_hand.engines_say(rate=1.4, running=14.0)
    for service in (overloaded, contended, recommended):
        service.engines_say(rate=4.0, running=40.0, waiting=2.0)
    running = detector()

    for service in (overloaded, contended):
        service.wait_replicas(3, running)
    contended.scale_as("kube-controller-manager", 1)
    kubectl("scale", "llm/by-hand", "-n", set_by_hand.namespace, "--replicas=2")
    condition = contended.wait_condition("ScalingActive", "False", "Contended", running)
    assert "kube-controller-manager" in condition["message"]
    recommended.wait_condition("ScalingActive", "False", "RecommendMode", running)

    assert writes_while_measured(idle, running, identities.audit_log) == []
    assert writes(identities.audit_log, 0, "busy") != []  # control: the log does show what is written
    # Waited for, because the last tick may have been a blind one.
    assert_scaled(overloaded.wait_decision("WaitingForReplicas", running), kubectl)
    assert contended.replicas == 1
    set_by_hand.wait_condition("ScalingActive", "True", "Active", running)
    found = recommended.wait_decision("ScaleOut", running)
    assert (found["spec"]["replicas"], found["status"]["decision"]["bounded"]) == (1, 3)


def assert_scaled(found: dict[str, Any], kubectl: Any) -> None:
    """Twice the line on one replica: three asked for, by our field manager, with status, history and Event."""
    owners = [one for one in found["metadata"]["managedFields"] if "f:replicas" in one["fieldsV1"].get("f:spec", {})]
    assert [(one["manager"], one.get("subresource")) for one in owners] == [("plimsoll-detector", "scale")]
    status = found["status"]
    assert status["diagnosis"]["kind"] == "Overload"
    made = status["history"][0]
    assert (made["before"], made["after"], made["reason"]) == (1, 3, "ScaleOut")
    assert "load line" in made["message"]
    assert status["decision"]["reason"] == "WaitingForReplicas"
    assert float(status["observed"]["requestsPerSecond"]) == pytest.approx(4.0, rel=0.25)
    assert float(status["observed"]["outputTokensMean"]) == 250.0
    assert {one["type"] for one in status["conditions"]} >= set(names.DETECTOR_CONDITIONS)
    events = kubectl.json("get", "events", "-n", found["metadata"]["namespace"])["items"]
    told = [event for event in events if event["reason"] == "ScaleOut" and event["involvedObject"]["name"] == "busy"]
    assert [event["message"].split(":")[0] for event in told] == ["1 to 3 replicas"]


@pytest.mark.timeout(480)
def test_of_two_detectors_one_acts_and_the_other_takes_over(service: Any, detector: Start, identities: Any) -> None:
    """Killed right after it scaled, the leader is followed by the standby, which finds nothing to repair.

    Then the standby is told to stop: it does, and gives the Lease up.
    """
    service.create(1)
    service.engines_say(rate=4.0, running=40.0, waiting=2.0)
    first = detector(LEASE)
    first.wait_ticks(1)
    second = detector(LEASE)
    service.wait_replicas(3, first)
    assert (first.metric("plimsoll_detector_leader"), second.metric("plimsoll_detector_leader")) == (1.0, 0.0)
    assert second.ticks == 0
    first.process.kill()
    second.wait_ticks(20)
    assert second.metric("plimsoll_detector_leader") == 1.0
    found = service.get()
    assert found["spec"]["replicas"] == 3
    assert len(found["status"]["history"]) <= 1  # the first may have been killed before it could write it down
    second.process.stop()
    assert second.process.exit_code == 0
    lease = identities.kubectl.json("get", "lease", "plimsoll-detector", "-n", "plimsoll-system")
    assert not lease["spec"].get("holderIdentity")
