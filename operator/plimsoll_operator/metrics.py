"""The operator's own metrics, all named `plimsoll_*`, in base units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from plimsoll_api import service_series as series
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
        self.reconciles = Counter(
            series.OPERATOR_RECONCILES, "Reconciles by how they ended.", ["result"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            series.OPERATOR_RECONCILE_SECONDS, "Duration of a reconcile.", buckets=_RECONCILE_BUCKETS, registry=registry
        )
        self.requests = Counter(
            series.OPERATOR_API_REQUESTS,
            "Requests to the API server; code 0 is no answer.",
            ["verb", "code"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            series.OPERATOR_API_SECONDS, "Duration of a request to the API server.", ["verb"], registry=registry
        )
        self.leader = Gauge(series.OPERATOR_LEADER, "1 while this process leads.", registry=registry)
        self.queue_seconds = Histogram(
            series.OPERATOR_QUEUE_WAIT_SECONDS,
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
        yield GaugeMetricFamily(series.OPERATOR_QUEUE_DEPTH, "Keys that wait for a worker.", len(queue))
        yield GaugeMetricFamily(series.OPERATOR_QUEUE_WORKING, "Keys being worked on.", queue.working)
        oldest = "How long the oldest key that is due has waited."
        yield GaugeMetricFamily(series.OPERATOR_QUEUE_OLDEST_SECONDS, oldest, queue.oldest_age())
        yield CounterMetricFamily(series.OPERATOR_QUEUE_ADDS, "Keys added.", queue.counts.adds)
        yield CounterMetricFamily(
            series.OPERATOR_QUEUE_RETRIES, "Keys added again after a failure.", queue.counts.retries
        )
        lag = "How late the event loop last woke a timer."
        yield GaugeMetricFamily(series.OPERATOR_LOOP_LAG_SECONDS, lag, pulse.loop_lag)
        resync = "When every service was last listed."
        yield GaugeMetricFamily(series.OPERATOR_LAST_RESYNC, resync, pulse.resynced_at)
