"""The operator's own metrics, all named `plimsoll_*`, in base units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from plimsoll_operator.reconciler import Key
from plimsoll_operator.service_metrics import ServiceMetrics
from plimsoll_operator.workqueue import WorkQueue

_RECONCILE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: a reconcile that changes nothing takes tens of milliseconds; one that waits for the API server, tens of
seconds."""


@dataclass
class Pulse:
    """Signs of life that the process's own tasks leave.

    Attributes:
        resynced_at: Unix time of the last resync; 0 before the first.
        loop_lag: seconds by which the event loop last was late.
    """

    resynced_at: float = 0.0
    loop_lag: float = 0.0


class Metrics:
    """Counters and gauges of one operator process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.reconciles = Counter("plimsoll_reconcile", "Reconciles by how they ended.", ["result"], registry=registry)
        self.reconcile_seconds = Histogram(
            "plimsoll_reconcile_seconds", "Duration of a reconcile.", buckets=_RECONCILE_BUCKETS, registry=registry
        )
        self.requests = Counter(
            "plimsoll_api_requests",
            "Requests to the API server; code 0 is no answer.",
            ["verb", "code"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "plimsoll_api_request_seconds", "Duration of a request to the API server.", ["verb"], registry=registry
        )
        self.leader = Gauge("plimsoll_leader", "1 while this process leads.", registry=registry)
        self.queue_seconds = Histogram(
            "plimsoll_workqueue_wait_seconds",
            "How long a key that was due waited for a worker.",
            buckets=_RECONCILE_BUCKETS,
            registry=registry,
        )
        self.services = ServiceMetrics()
        registry.register(self.services)

    def observe_request(self, verb: str, status: int, seconds: float) -> None:
        """Count a request to the API server."""
        self.requests.labels(verb, str(status)).inc()
        self.request_seconds.labels(verb).observe(seconds)

    def show(self, queue: WorkQueue[Key], pulse: Pulse) -> None:
        """Show what the queue and the process keep count of, whenever it is asked for."""
        self.registry.register(_Readings(queue, pulse))


class _Readings(Collector):
    """Figures that are read when Prometheus asks."""

    def __init__(self, queue: WorkQueue[Key], pulse: Pulse) -> None:
        self._queue = queue
        self._pulse = pulse

    def collect(self) -> Iterator[Metric]:
        """Every reading."""
        queue, pulse = self._queue, self._pulse
        yield GaugeMetricFamily("plimsoll_workqueue_depth", "Keys that wait for a worker.", len(queue))
        yield GaugeMetricFamily("plimsoll_workqueue_working", "Keys being worked on.", queue.working)
        oldest = "How long the oldest key that is due has waited."
        yield GaugeMetricFamily("plimsoll_workqueue_oldest_seconds", oldest, queue.oldest_age())
        yield CounterMetricFamily("plimsoll_workqueue_adds", "Keys added.", queue.counts.adds)
        yield CounterMetricFamily(
            "plimsoll_workqueue_retries", "Keys added again after a failure.", queue.counts.retries
        )
        lag = "How late the event loop last woke a timer."
        yield GaugeMetricFamily("plimsoll_event_loop_lag_seconds", lag, pulse.loop_lag)
        resync = "When every service was last listed."
        yield GaugeMetricFamily("plimsoll_last_resync_timestamp_seconds", resync, pulse.resynced_at)
