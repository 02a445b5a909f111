"""The operator's own metrics, all named `plimsoll_*`, in base units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from plimsoll_operator.reconciler import Key, Outcome
from plimsoll_operator.workqueue import WorkQueue

_RECONCILE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: a reconcile that changes nothing takes tens of milliseconds; one that waits for the API server, tens of
seconds."""


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
        self.last_resync = Gauge(
            "plimsoll_last_resync_timestamp_seconds", "When every service was last listed.", registry=registry
        )
        self.loop_lag = Gauge(
            "plimsoll_event_loop_lag_seconds", "How late the event loop last woke a timer.", registry=registry
        )
        service = ["namespace", "llmservice"]
        self.desired = Gauge("plimsoll_desired_replicas", "Replicas wanted.", service, registry=registry)
        self.ready = Gauge("plimsoll_ready_replicas", "Replicas that serve.", service, registry=registry)

    def observe_request(self, verb: str, status: int, seconds: float) -> None:
        """Count a request to the API server."""
        self.requests.labels(verb, str(status)).inc()
        self.request_seconds.labels(verb).observe(seconds)

    def observe_outcome(self, key: Key, outcome: Outcome) -> None:
        """Show a service's replicas, or forget a service that is gone."""
        if outcome.result == "gone":
            for gauge in (self.desired, self.ready):
                if key in gauge._metrics:
                    gauge.remove(*key)
            return
        if outcome.wanted is not None:
            self.desired.labels(*key).set(outcome.wanted)
        if outcome.ready is not None:
            self.ready.labels(*key).set(outcome.ready)

    def watch_queue(self, queue: WorkQueue[Key]) -> None:
        """Show the queue's figures when they are asked for."""

        def gauge(name: str, text: str, read: Callable[[], float]) -> None:
            Gauge(name, text, registry=self.registry).set_function(read)

        gauge("plimsoll_workqueue_depth", "Keys that wait for a worker.", lambda: len(queue))
        gauge("plimsoll_workqueue_oldest_seconds", "How long the oldest key has waited.", queue.oldest_age)
        gauge("plimsoll_workqueue_working", "Keys being worked on.", lambda: queue.working)
        gauge("plimsoll_workqueue_adds", "Keys added since the start.", lambda: queue.counts.adds)
        gauge("plimsoll_workqueue_retries", "Keys added again after a failure.", lambda: queue.counts.retries)
