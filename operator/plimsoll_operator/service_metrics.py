"""What the operator exposes of each LLMService: replicas, cost, objectives, prediction and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from plimsoll_api import service_series as series
from plimsoll_api.names import SERIES_NAMESPACE, SERIES_SERVICE
from plimsoll_api.v1alpha1 import LLMServiceSpec, parse_duration
from plimsoll_operator.reconciler import Key, Outcome

_SERVICE: Final = (SERIES_NAMESPACE, SERIES_SERVICE)
_CONDITION: Final = (*_SERVICE, series.LABEL_CONDITION, series.LABEL_STATUS, series.LABEL_REASON)
_LATENCY: Final = (*_SERVICE, series.LABEL_LATENCY)

_TEXTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    series.WANTED_REPLICAS: ("Replicas wanted.", _SERVICE),
    series.READY_REPLICAS: ("Replicas that serve.", _SERVICE),
    series.EXISTING_REPLICAS: ("Pods that exist: serving, starting and draining ones.", _SERVICE),
    series.GPUS: ("GPUs of the pods that exist.", _SERVICE),
    series.COST_PER_HOUR: ("What the pods that exist cost, in the currency of hourlyCost.", _SERVICE),
    series.OBJECTIVE_SECONDS: ("Objective, at its percentile.", _LATENCY),
    series.OBJECTIVE_ATTAINMENT: ("Share of requests that must meet every objective.", _SERVICE),
    series.PREDICTED_SECONDS: ("Predicted latency of one replica at its load line.", _LATENCY),
    series.PREDICTED_LOAD_LINE: ("Requests per second one replica is predicted to carry.", _SERVICE),
    series.CONDITION: ("1 for the status and reason a condition has now.", _CONDITION),
}

Sample = tuple[str, tuple[str, ...], float]
"""(series, values of the labels after the service's, value)."""


class ServiceMetrics(Collector):
    """The last known figures of every service, read when Prometheus asks."""

    def __init__(self) -> None:
        self._samples: dict[Key, tuple[Sample, ...]] = {}

    def show(self, key: Key, outcome: Outcome) -> None:
        """Remember what a reconcile found, or forget a service that is gone."""
        if outcome.result == "gone":
            self._samples.pop(key, None)
        elif outcome.status is not None:
            self._samples[key] = tuple(samples(outcome))

    def collect(self) -> Iterator[Metric]:
        """Every series of every service."""
        families = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in _TEXTS.items()}
        for key, found in list(self._samples.items()):
            for name, labels, value in found:
                families[name].add_metric([*key, *labels], value)
        yield from families.values()


def samples(outcome: Outcome) -> Iterator[Sample]:
    """The figures of one service (pure)."""
    status = outcome.status or {}
    if outcome.wanted is not None:
        yield series.WANTED_REPLICAS, (), outcome.wanted
    if outcome.ready is not None:
        yield series.READY_REPLICAS, (), outcome.ready
    if "replicas" in status:
        yield series.EXISTING_REPLICAS, (), status["replicas"]
    if cost := status.get("cost"):
        yield series.GPUS, (), cost["gpus"]
        yield series.COST_PER_HOUR, (), float(cost["perHour"])
    yield from _predicted((status.get("recommendation") or {}).get("predicted"))
    yield from _objectives(outcome.spec)
    yield from _conditions(status.get("conditions") or ())


def _predicted(predicted: Mapping[str, Any] | None) -> Iterator[Sample]:
    if predicted is None:
        return
    for latency in ("ttft", "tpot", "e2e"):
        yield series.PREDICTED_SECONDS, (latency,), parse_duration(predicted[latency])
    yield series.PREDICTED_LOAD_LINE, (), float(predicted["loadLineRequestsPerSecond"])


def _objectives(spec: LLMServiceSpec | None) -> Iterator[Sample]:
    if spec is None:
        return
    aims = spec.objectives
    for latency, target in (("ttft", aims.ttft), ("tpot", aims.tpot), ("e2e", aims.e2e)):
        if target is not None:
            yield series.OBJECTIVE_SECONDS, (latency,), parse_duration(target)
    yield series.OBJECTIVE_ATTAINMENT, (), float(aims.attainment)


def _conditions(conditions: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for condition in conditions:
        yield series.CONDITION, (condition["type"], condition["status"], condition["reason"]), 1.0
