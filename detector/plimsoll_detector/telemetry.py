"""The detector's own metrics: `plimsoll_detector_*` of the process, `plimsoll_service_*` of each service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from plimsoll_api import service_series as series
from plimsoll_api.names import SERIES_NAMESPACE, SERIES_SERVICE
from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_detector.features import Key
from plimsoll_detector.judgement import Judgement

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
LATENCIES: Final = ("ttft", "tpot", "e2e", "queueTime")
"""Names of an observation's latencies."""
_SERVICE: Final = (SERIES_NAMESPACE, SERIES_SERVICE)


class Telemetry:
    """Every metric of the process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leader = self._gauge(series.DETECTOR_LEADER, "1 while this process decides, 0 while it stands by.")
        self.services = self._gauge(series.DETECTOR_SERVICES, "LLMServices seen at the last tick.")
        self.tick_seconds = self._histogram(series.DETECTOR_TICK_SECONDS, "Duration of a tick.")
        self.late_ticks = self._counter(
            series.DETECTOR_LATE_TICKS, "Ticks that began late because the one before took too long."
        )
        self.failed_ticks = self._counter(series.DETECTOR_FAILED_TICKS, "Ticks that ended in an error.")
        self.failed_services = self._counter(
            series.DETECTOR_FAILED_SERVICES, "Services that could not be judged or written in a tick."
        )
        self.query_seconds = self._histogram(
            series.DETECTOR_QUERY_SECONDS, "Duration of a query to Prometheus.", "signal"
        )
        self.query_failures = self._counter(
            series.DETECTOR_QUERY_FAILURES, "Queries to Prometheus without an answer.", "signal"
        )
        self.api_seconds = self._histogram(
            series.DETECTOR_API_SECONDS, "Duration of a request to the API server.", "verb", "code"
        )
        self.scale_writes = self._counter(series.DETECTOR_SCALE_WRITES, "Changes of replicas written.", "direction")
        self.status_writes = self._counter(series.DETECTOR_STATUS_WRITES, "Status writes.")
        self.decisions = self._counter(series.DETECTOR_DECISIONS, "Decisions made.", "reason")
        self.diagnosis = self._gauge(
            series.DIAGNOSIS, "1 for the diagnosis in force, 0 for the others.", *_SERVICE, series.LABEL_DIAGNOSIS
        )
        self.latency = self._gauge(
            series.LATENCY_SECONDS, "Measured, at the objectives' percentile.", *_SERVICE, series.LABEL_LATENCY
        )
        self.condition = self._gauge(
            series.CONDITION,
            "1 for the status and reason a condition has now.",
            *_SERVICE,
            series.LABEL_CONDITION,
            series.LABEL_STATUS,
            series.LABEL_REASON,
        )
        self.load_replicas = self._gauge(
            series.LOAD_REPLICAS, "Load, in replicas at their load line that it needs.", *_SERVICE
        )
        self.load_ratio = self._gauge(series.LOAD_RATIO, "Load per serving replica over its load line.", *_SERVICE)
        self.load_line = self._gauge(
            series.LOAD_LINE, "Requests per second that one replica carries, as measured.", *_SERVICE
        )
        self.desired = self._gauge(series.DESIRED_REPLICAS, "Replicas that the load asks for.", *_SERVICE)
        self.bounded = self._gauge(series.BOUNDED_REPLICAS, "Replicas that bounds, budget and pace allow.", *_SERVICE)
        self.coverage = self._gauge(
            series.DATA_COVERAGE, "Share of the replicas with fresh and complete data.", *_SERVICE
        )
        self.age = self._gauge(series.DATA_AGE, "Age of the oldest replica's last sample.", *_SERVICE)
        self.arrivals = self._gauge(series.ARRIVALS, "Requests that arrive per second.", *_SERVICE)
        self.attainment = self._gauge(
            series.ATTAINMENT, "Share of requests that met every objective, at least.", *_SERVICE
        )
        self._known: set[Key] = set()
        self._conditions: dict[Key, set[tuple[str, str, str]]] = {}

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=_SECONDS)

    def query(self, signal: str, succeeded: bool, seconds: float) -> None:
        """Count one query to Prometheus."""
        self.query_seconds.labels(signal).observe(seconds)
        if not succeeded:
            self.query_failures.labels(signal).inc()

    def api_request(self, verb: str, code: int, seconds: float) -> None:
        """Count one request to the API server; code 0 is no answer."""
        self.api_seconds.labels(verb, str(code)).observe(seconds)

    def judged(self, key: Key, judgement: Judgement, line: float | None) -> None:
        """Show one service's judgement.

        Args:
            key: namespace and name.
            judgement: what is shown.
            line: measured load line in requests per second; None without one.
        """
        self._known.add(key)
        for kind in DiagnosisKind:
            self.diagnosis.labels(*key, kind.value).set(kind is judgement.diagnosis.kind)
        self.decisions.labels(judgement.decision.reason.value).inc()
        observation, quality = judgement.observation, judgement.observation.quality
        self.desired.labels(*key).set(judgement.decision.desired)
        self.bounded.labels(*key).set(judgement.decision.bounded)
        self.coverage.labels(*key).set(quality.coverage)
        for gauge, value in (
            (self.load_replicas, judgement.load),
            (self.load_ratio, judgement.utilization),
            (self.age, quality.age),
            (self.load_line, line),
            (self.arrivals, observation.arrivals if quality.usable else None),
            (self.attainment, observation.attainment if quality.usable else None),
        ):
            if value is None:
                _forget(gauge, key)  # what is not known is absent, not 0
            else:
                gauge.labels(*key).set(value)
        for name in LATENCIES:
            if (latency := observation.latencies.get(name)) is None or not quality.usable:
                _forget(self.latency, (*key, name))
            else:
                self.latency.labels(*key, name).set(latency.value)

    def reported(self, key: Key, conditions: Iterable[Mapping[str, Any]]) -> None:
        """Show the conditions that one service has now."""
        now = {(one["type"], one["status"], one["reason"]) for one in conditions}
        for labels in self._conditions.get(key, set()) - now:
            _forget(self.condition, (*key, *labels))
        for labels in now:
            self.condition.labels(*key, *labels).set(1.0)
        self._conditions[key] = now

    def keep_only(self, keys: set[Key]) -> None:
        """Drop the series of services that are gone."""
        self.services.set(len(keys))
        for key in self._known - keys:
            for gauge in (
                self.load_replicas,
                self.load_ratio,
                self.load_line,
                self.desired,
                self.bounded,
                self.coverage,
                self.age,
                self.arrivals,
                self.attainment,
            ):
                _forget(gauge, key)
            for name in LATENCIES:
                _forget(self.latency, (*key, name))
            self.reported(key, ())
            del self._conditions[key]
            for kind in DiagnosisKind:
                _forget(self.diagnosis, (*key, kind.value))
        self._known &= keys


def _forget(gauge: Gauge, labels: tuple[str, ...]) -> None:
    """Remove a series; one that does not exist is fine."""
    try:
        gauge.remove(*labels)
    except KeyError:
        return
