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


def writes(audit_log: Path, since: int, service: str) -> list[str]:
    """The detector's writes about one service (its Events, too) in the audit log, from a line on."""
    found = []
    for line in audit_log.read_text().splitlines()[since:]:
        entry = json.loads(line)
        reference = entry.get("objectRef", {})
        about = str(reference.get("name", "")).startswith(service)
        if entry["user"]["username"] == DETECTOR_USER and entry["verb"] in WRITES and about:
            found.append(f"{entry['verb']} {reference['resource']}/{reference.get('subresource', '')}")
    return found


def lines(audit_log: Path) -> int:
    """How long the audit log is."""
    return len(audit_log.read_text().splitlines())


@pytest.mark.timeout(240)
def test_services_side_by_side(new_service: New, detector: Start, identities: Any, kubectl: Any) -> None:
    """Five services under one detector: overloaded, idle, contended, set by a person, and only recommended."""
    overloaded, contended, set_by_hand = (new_service(name).create(1) for name in ("busy", "contended", "by-hand"))
    recommended = new_service("recommended").create(1, mode="Recommend")
    idle = new_service("idle").create(1)
    set_by_hand.engines_say(rate=1.4, running=14.0)
    idle.engines_say(rate=0.0, running=0.0)
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
    running.wait_ticks(4)
    before = lines(identities.audit_log)
    running.wait_ticks(20)

    assert writes(identities.audit_log, before, "idle") == []
    assert writes(identities.audit_log, 0, "busy") != []  # control: the log does show what is written
    assert_scaled(overloaded.get(), kubectl)
    assert contended.replicas == 1
    assert set_by_hand.condition("ScalingActive")["status"] == "True"
    assert (recommended.replicas, recommended.get()["status"]["decision"]["bounded"]) == (1, 3)


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


@pytest.mark.timeout(240)
def test_of_two_detectors_one_acts_and_the_other_takes_over(service: Any, detector: Start, identities: Any) -> None:
    """Killed right after it scaled, the leader is followed by the standby, which finds nothing to repair.

    Then the standby is told to stop: it does, and gives the Lease up.
    """
    service.create(1)
    service.engines_say(rate=4.0, running=40.0, waiting=2.0)
    first = detector()
    first.wait_ticks(1)
    second = detector()
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
