"""What the detector writes: replicas, status, Events; and when it writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from plimsoll_api import names

pytestmark = [pytest.mark.api_server, pytest.mark.slow, pytest.mark.xdist_group("control_plane")]

Start = Callable[..., Any]
DETECTOR_USER = "system:serviceaccount:plimsoll-system:plimsoll-detector"
WRITES = frozenset({"create", "update", "patch", "delete"})


def wait_replicas(service: Any, replicas: int, detector: Any) -> None:
    """Wait until so many are asked for."""
    deadline = monotonic() + 60.0
    while service.replicas != replicas:
        assert monotonic() < deadline, f"{service.replicas} replicas\n{detector.end_of_log()}"
        sleep(0.2)


def writes(audit_log: Path, since: int) -> list[str]:
    """The detector's writes in the audit log from an offset on, without its Lease."""
    found = []
    for line in audit_log.read_text().splitlines()[since:]:
        entry = json.loads(line)
        reference = entry.get("objectRef", {})
        if entry["user"]["username"] == DETECTOR_USER and entry["verb"] in WRITES and reference["resource"] != "leases":
            found.append(f"{entry['verb']} {reference['resource']}/{reference.get('subresource', '')}")
    return found


def lines(audit_log: Path) -> int:
    """How long the audit log is."""
    return len(audit_log.read_text().splitlines())


def test_overload_adds_replicas_and_says_why(service: Any, detector: Start) -> None:
    """Twice the line on one replica: three asked for, by the detector's field manager, with history and Event."""
    service.create(1)
    service.engines[0].rate, service.engines[0].running = 4.0, 40.0
    running = detector()
    wait_replicas(service, 3, running)
    running.wait_ticks(4)
    found = service.get()
    owners = [one for one in found["metadata"]["managedFields"] if "f:replicas" in one["fieldsV1"].get("f:spec", {})]
    assert [(one["manager"], one.get("subresource")) for one in owners] == [("plimsoll-detector", "scale")]
    status = found["status"]
    assert status["diagnosis"]["kind"] == "Overload"
    assert status["history"][0]["before"] == 1
    assert status["history"][0]["after"] == 3
    assert status["history"][0]["reason"] == "ScaleOut"
    assert "load line" in status["history"][0]["message"]
    assert status["decision"]["reason"] == "WaitingForReplicas"
    assert float(status["observed"]["requestsPerSecond"]) == pytest.approx(4.0, rel=0.25)
    assert float(status["observed"]["outputTokensMean"]) == 250.0
    assert {one["type"] for one in status["conditions"]} >= set(names.DETECTOR_CONDITIONS)
    events = service.kubectl.json("get", "events", "-n", service.namespace)["items"]
    assert [event["message"].split(":")[0] for event in events if event["reason"] == "ScaleOut"] == ["1 to 3 replicas"]


def test_an_idle_service_costs_no_write(service: Any, detector: Start, identities: Any) -> None:
    """After it has said what there is to say, an idle service is not written for thirty ticks."""
    service.create(1)
    service.engines[0].rate, service.engines[0].running = 0.0, 0.0
    running = detector()
    service.wait_condition("MetricsAvailable", "True", "Fresh", running)
    running.wait_ticks(20)
    before = lines(identities.audit_log)
    running.wait_ticks(30)
    assert writes(identities.audit_log, before) == []


def test_of_two_detectors_one_acts_and_the_other_takes_over(service: Any, detector: Start) -> None:
    """One leads; killed without warning, the other takes over, and the replicas do not move meanwhile."""
    service.create(2)
    for engine in service.engines:
        engine.rate, engine.running = 1.6, 14.0
    first = detector()
    service.wait_condition("MetricsAvailable", "True", "Fresh", first)
    second = detector()
    first.wait_ticks(6)
    assert (first.metric("plimsoll_detector_leader"), second.metric("plimsoll_detector_leader")) == (1.0, 0.0)
    assert second.ticks == 0
    first.process.kill()
    deadline = monotonic() + 30.0
    while second.metric("plimsoll_detector_leader") != 1.0:
        assert monotonic() < deadline, second.end_of_log()
        sleep(0.1)
    second.wait_ticks(12)
    assert service.replicas == 2
    assert not service.get()["status"].get("history")


def test_killed_and_started_again_it_goes_on(service: Any, detector: Start) -> None:
    """Killed right after it scaled: the next one finds the replicas, the history, and nothing to repair."""
    service.create(1)
    service.engines[0].rate, service.engines[0].running = 4.0, 40.0
    first = detector()
    wait_replicas(service, 3, first)
    first.process.kill()
    second = detector()
    second.wait_ticks(16)
    found = service.get()
    assert found["spec"]["replicas"] == 3
    assert len(found["status"]["history"]) <= 1  # the first may have been killed before it could write it down


def test_it_yields_to_another_scaler(service: Any, detector: Start) -> None:
    """An HPA writes /scale: from then on the detector writes none, and says who it yields to."""
    service.create(1)
    service.engines[0].rate, service.engines[0].running = 4.0, 40.0
    running = detector()
    wait_replicas(service, 3, running)
    service.scale_as("kube-controller-manager", 1)
    condition = service.wait_condition("ScalingActive", "False", "Contended", running)
    assert "kube-controller-manager" in condition["message"]
    running.wait_ticks(10)
    assert service.replicas == 1


def test_a_persons_number_is_left_alone_for_a_while(service: Any, detector: Start) -> None:
    """`kubectl scale` during an overload: not undone at once, and not a contention either."""
    service.create(1, scaleInStabilization="1h")
    service.engines[0].rate, service.engines[0].running = 4.0, 40.0
    running = detector()
    wait_replicas(service, 3, running)
    service.kubectl("scale", f"llm/{service.name}", "-n", service.namespace, "--replicas=2")
    running.wait_ticks(8)
    found = service.get()
    assert found["spec"]["replicas"] == 2
    assert found["status"]["decision"]["reason"] == "SetBySomebodyElse"
    assert service.condition("ScalingActive")["status"] == "True"


def test_recommend_records_and_does_not_act(service: Any, detector: Start) -> None:
    """Mode Recommend: the decision is in the status, the replicas are not touched."""
    service.create(1, mode="Recommend")
    service.engines[0].rate, service.engines[0].running = 4.0, 40.0
    running = detector()
    service.wait_condition("ScalingActive", "False", "RecommendMode", running)
    deadline = monotonic() + 60.0
    while service.get()["status"]["decision"]["bounded"] != 3:
        assert monotonic() < deadline, running.end_of_log()
        sleep(0.2)
    running.wait_ticks(6)
    assert service.replicas == 1


def test_it_stops_gracefully(service: Any, detector: Start, identities: Any) -> None:
    """SIGTERM: exit code 0, and the Lease is given up for the next one."""
    running = detector()
    running.wait_ticks(1)
    running.process.stop()
    assert running.process.exit_code == 0
    lease = identities.kubectl.json("get", "lease", "plimsoll-detector", "-n", "plimsoll-system")
    assert not lease["spec"].get("holderIdentity")
