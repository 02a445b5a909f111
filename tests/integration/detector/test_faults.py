"""Prometheus stopped, empty, stale or serving NaN: replicas do not move, and a condition says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.api_server, pytest.mark.slow, pytest.mark.xdist_group("control_plane")]

Start = Callable[..., Any]
TICKS = 12
"""Ticks to watch: the scale-in window is two of them, so that what is read as idle would have been acted on."""


@pytest.fixture
def well(service: Any, detector: Start) -> Any:
    """A service of three replicas under a load that is right for three, and a detector that has found it so."""
    service.create(3)
    for engine in service.engines:
        engine.rate, engine.running = 1.6, 14.0
    running = detector()
    service.wait_condition("MetricsAvailable", "True", "Fresh", running)
    running.wait_ticks(10)
    assert service.replicas == 3
    return running


def no_engine(service: Any) -> None:
    """Nothing is scraped any more, as after a broken PodMonitor."""
    service.prometheus.targets([])


def every_engine(service: Any, **changes: Any) -> None:
    """Change every engine."""
    for engine in service.engines:
        for name, value in changes.items():
            setattr(engine, name, value)


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "stopped": (lambda service: service.prometheus.stop(), "PrometheusUnreachable"),
    "empty": (no_engine, "NoData"),
    "scrapes fail": (lambda service: every_engine(service, up=False), "NoData"),
    "NaN": (lambda service: every_engine(service, nan=True), "NotANumber"),
    "one replica gone": (lambda service: setattr(service.engines[0], "up", False), "PartialCoverage"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_replicas_do_not_move(fault: str, well: Any, service: Any) -> None:
    """Whatever is wrong with the data, the number of replicas stays, and MetricsAvailable names the fault."""
    break_it, reason = FAULTS[fault]
    break_it(service)
    condition = service.wait_condition("MetricsAvailable", "False", reason, well)
    assert "replicas are held" in condition["message"]
    well.wait_ticks(TICKS)
    assert service.replicas == 3
    assert well.metric('plimsoll_detector_scale_writes_total{direction="in"}') == 0
    assert service.condition("ScalingActive")["status"] == "False"
    assert service.get()["status"]["diagnosis"]["kind"] == "Blind"


def test_samples_that_are_minutes_old_are_stale(service: Any, detector: Start) -> None:
    """A path in between repeats old samples with their old timestamps, just inside Prometheus' look-back of 5 min."""
    service.create(3)
    every_engine(service, age=290.0)
    running = detector()
    condition = service.wait_condition("MetricsAvailable", "False", "StaleData", running)
    assert "s old" in condition["message"]
    running.wait_ticks(TICKS)
    assert service.replicas == 3


def test_a_fault_that_passes_is_forgotten(well: Any, service: Any) -> None:
    """Prometheus comes back, and so does the diagnosis."""
    service.prometheus.stop()
    service.wait_condition("MetricsAvailable", "False", "PrometheusUnreachable", well)
    service.prometheus.start()
    service.wait_condition("MetricsAvailable", "True", "Fresh", well)
    assert service.replicas == 3


def test_control_an_idle_service_is_scaled_in(well: Any, service: Any) -> None:
    """Control: with the same settings, engines that truly serve nothing lose their replicas at once."""
    every_engine(service, rate=0.0, running=0.0)
    from time import monotonic, sleep

    deadline = monotonic() + 60.0
    while service.replicas != 1:
        assert monotonic() < deadline, well.end_of_log()
        sleep(0.2)
