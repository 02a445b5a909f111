"""What the detector exposes of a service's conditions comes and goes with them."""

from __future__ import annotations

from prometheus_client import generate_latest

from plimsoll_detector.telemetry import Telemetry

KEY = ("ml", "chat")
ACTIVE = {"type": "ScalingActive", "status": "True", "reason": "Active"}
CONTENDED = {"type": "ScalingActive", "status": "False", "reason": "Contended"}


def exposed(telemetry: Telemetry) -> str:
    """A scrape."""
    return generate_latest(telemetry.registry).decode()


def test_a_condition_has_one_reason_at_a_time() -> None:
    """Else an alert on the old reason would go on firing."""
    telemetry = Telemetry()
    telemetry.reported(KEY, [ACTIVE])
    assert 'reason="Active"' in exposed(telemetry)
    telemetry.reported(KEY, [CONTENDED])
    assert 'reason="Contended"' in exposed(telemetry)
    assert 'reason="Active"' not in exposed(telemetry)
