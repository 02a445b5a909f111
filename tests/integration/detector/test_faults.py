"""Prometheus stopped, empty, stale or serving NaN: replicas do not move, and a condition says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.api_server, pytest.mark.slow, pytest.mark.xdist_group("control_plane")]

Start = Callable[..., Any]
New = Callable[[str], Any]
TICKS = 16
"""Ticks to watch: a surplus is acted on once it has lasted a window, which is twelve of them."""


def lose_target(service: Any) -> None:
    """Nothing of the service is scraped any more, as after a broken PodMonitor: its series are there and end."""
    targets = [one for one in service.exposition.targets() if one["labels"]["llmservice"] != service.name]
    service.prometheus.targets(targets)


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "empty": (lose_target, "NoData"),
    "failing": (lambda service: service.engines_say(up=False), "NoData"),
    "nan": (lambda service: service.engines_say(nan=True), "NotANumber"),
    "one-gone": (lambda service: setattr(service.engines[0], "up", False), "PartialCoverage"),
}


OLD: dict[str, tuple[float, str]] = {"stale": (290.0, "StaleData"), "older": (400.0, "NoData")}
"""A path in between repeats old samples under their old timestamps: seconds of age, just inside and just beyond the
five minutes that Prometheus looks back."""


def assert_held(service: Any) -> None:
    """Nothing moved, and every part of the status says that nothing is known."""
    found = service.get()
    assert found["spec"]["replicas"] == 3, service.name
    assert found["status"]["diagnosis"]["kind"] == "Blind", service.name
    assert found["status"]["decision"]["reason"] == "Blind", service.name
    assert service.condition("ScalingActive")["status"] == "False", service.name


@pytest.mark.timeout(480)
def test_replicas_do_not_move(new_service: New, detector: Start) -> None:
    """One service per fault, each well before; then Prometheus itself stops, and comes back.

    The control comes last: engines that truly serve nothing lose their replicas at once, with the same settings.
    """
    # Old from the first scrape on: Prometheus refuses samples that are older than those it has.
    old = {name: new_service(name).create(3, says={"age": age}) for name, (age, _) in OLD.items()}
    services = {fault: new_service(fault).create(3) for fault in FAULTS}
    running = detector()
    for service in services.values():
        service.engines_say(rate=1.6, running=14.0)
        service.wait_condition("MetricsAvailable", "True", "Fresh", running)
    running.wait_ticks(TICKS)
    assert [service.replicas for service in services.values()] == [3] * len(FAULTS)

    for fault, (break_it, _) in FAULTS.items():
        break_it(services[fault])
    for fault, (_, reason) in FAULTS.items():
        condition = services[fault].wait_condition("MetricsAvailable", "False", reason, running)
        assert "replicas are held" in condition["message"]
    running.wait_ticks(TICKS)
    for name, (_, reason) in OLD.items():
        condition = old[name].wait_condition("MetricsAvailable", "False", reason, running)
        assert name != "stale" or " s old" in condition["message"]
    for service in (*services.values(), *old.values()):
        assert_held(service)

    running_prometheus = services["nan"].prometheus
    running_prometheus.stop()
    for service in services.values():
        service.wait_condition("MetricsAvailable", "False", "PrometheusUnreachable", running)
    running.wait_ticks(TICKS)
    for service in services.values():
        assert_held(service)
    assert running.metric('plimsoll_detector_scale_writes_total{direction="in"}') == 0

    running_prometheus.targets(services["nan"].exposition.targets())
    for service in services.values():
        service.engines_say(up=True, nan=False, age=None, rate=0.0, running=0.0)
    running_prometheus.start()
    for service in services.values():
        service.wait_condition("MetricsAvailable", "True", "Fresh", running)
        service.wait_replicas(1, running)
