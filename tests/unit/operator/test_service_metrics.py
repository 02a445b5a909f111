"""What the operator exposes of a service is what its status says."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from plimsoll_operator.reconciler import Outcome
from plimsoll_operator.service_metrics import ServiceMetrics

STATUS: dict[str, Any] = {
    "replicas": 2,
    "cost": {"perHour": "3.2", "gpus": 2},
    "recommendation": {"predicted": {"ttft": "0.4s", "tpot": "20ms", "e2e": "4s", "loadLineRequestsPerSecond": "6.5"}},
    "conditions": [{"type": "Accepted", "status": "False", "reason": "DoesNotFit"}],
}


def exposed(outcome: Outcome) -> str:
    """A scrape after one reconcile."""
    metrics = ServiceMetrics()
    metrics.show(("ml", "chat"), outcome)
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def test_cost_prediction_and_conditions_are_exposed() -> None:
    text = exposed(Outcome("reconciled", ready=1, wanted=2, status=STATUS))
    service = 'llmservice="chat",namespace="ml"'
    assert f"plimsoll_service_cost_per_hour{{{service}}} 3.2" in text
    assert f"plimsoll_service_gpus{{{service}}} 2.0" in text
    assert 'plimsoll_service_predicted_seconds{latency="tpot",llmservice="chat",namespace="ml"} 0.02' in text
    assert 'reason="DoesNotFit"' in text
    assert 'status="False",type="Accepted"} 1.0' in text


def test_what_is_not_known_is_absent() -> None:
    """A dashboard must show a gap, not a zero."""
    text = exposed(Outcome("refused", status={"conditions": []}))
    assert not [line for line in text.splitlines() if not line.startswith("#")]


def test_nothing_is_forgotten_while_nothing_is_concluded() -> None:
    """A reconcile that was cut short leaves the figures as they were."""
    metrics = ServiceMetrics()
    metrics.show(("ml", "chat"), Outcome("reconciled", status=STATUS))
    metrics.show(("ml", "chat"), Outcome("created"))
    registry = CollectorRegistry()
    registry.register(metrics)
    assert "plimsoll_service_gpus{" in generate_latest(registry).decode()
