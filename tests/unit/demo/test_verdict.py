"""The demo's verdict: every way to fail is named, and a good run passes."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll_cli.demo.snapshot import Snapshot, pod_counts, take
from plimsoll_cli.demo.verdict import ScalingOutcome, TrafficOutcome, failures, scaling_outcome

GOOD_TRAFFIC = TrafficOutcome(requests=100, failed=0, truncated=0)
GOOD_SCALING = ScalingOutcome(first=1, peak=3, last=1)


def snapshot(at: float, ready: int) -> Snapshot:
    """A snapshot of which only the number of ready replicas matters."""
    return Snapshot(at, ready, ready, 0, 0, None, None, None, None, None, None, None, "Normal", "")


def test_a_good_run_passes() -> None:
    """Control: nothing is held against a run with no failure that scaled both ways and left nothing."""
    assert failures(GOOD_TRAFFIC, GOOD_SCALING, []) == []


@pytest.mark.parametrize(
    ("traffic", "scaling", "left", "words"),
    [
        (TrafficOutcome(0, 0, 0), GOOD_SCALING, [], "no request"),
        (TrafficOutcome(100, 1, 0), GOOD_SCALING, [], "1 of 100 requests failed"),
        (TrafficOutcome(100, 0, 2), GOOD_SCALING, [], "2 of 100 responses were truncated"),
        (GOOD_TRAFFIC, ScalingOutcome(1, 1, 1), [], "never scaled out"),
        (GOOD_TRAFFIC, ScalingOutcome(1, 3, 3), [], "never scaled in"),
        (GOOD_TRAFFIC, GOOD_SCALING, ["etcd (pid 7)"], "left running: etcd"),
    ],
)
def test_every_failure_is_named(traffic: TrafficOutcome, scaling: ScalingOutcome, left: list[str], words: str) -> None:
    """Each condition of the demo fails it on its own."""
    assert any(words in failure for failure in failures(traffic, scaling, left))


def test_scaling_counts_ready_replicas_only() -> None:
    """The start before any pod is ready is not a scale-out."""
    seen = [snapshot(at, ready) for at, ready in enumerate([0, 1, 1, 3, 2])]
    assert scaling_outcome(seen) == ScalingOutcome(first=1, peak=3, last=2)
    assert scaling_outcome([]) == ScalingOutcome(0, 0, 0)


def pod(*, ready: bool, leaving: bool = False, phase: str = "Running") -> dict[str, Any]:
    """A Pod object with what the counts read."""
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


def test_pods_are_counted_by_what_they_do() -> None:
    """A leaving pod is draining even while it is Ready; a finished pod is nothing."""
    pods = [
        pod(ready=True),
        pod(ready=False),
        pod(ready=False, phase="Pending"),
        pod(ready=True, leaving=True),
        pod(ready=False, phase="Failed"),
    ]
    assert pod_counts(pods) == (1, 2, 1)


def test_a_service_without_status_gives_a_snapshot() -> None:
    """Before the first reconcile nothing is known, and nothing breaks."""
    assert take(0.0, {"spec": {}}, []).diagnosis == "-"
