"""From the samples of one tick to an `Observation` per service. Pure.

Nothing absent is read as 0: a replica without fresh, finite, complete data is missing, and a service with too many
of those has an observation that says so and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from plimsoll_api import names, series
from plimsoll_detector import histogram
from plimsoll_detector.histogram import Buckets
from plimsoll_detector.observation import Latency, Observation, PodFacts, PodReading, Problem, Quality
from plimsoll_detector.queries import REQUIRED, Per, Signal, query_table
from plimsoll_detector.reading import Reading, Sample

MIN_COVERAGE: Final = 0.9
"""Share of the expected replicas that must have data. Below ten replicas that means all; in a large fleet one flaky
scrape does not stop everything (and scale-in asks for all, see decision)."""

MAX_SKEW_SECONDS: Final = 60.0
"""Most that the two clocks may differ: pod times come from one, sample times from the other, and a minute is the
shortest window. Ages are taken on Prometheus' clock alone, so less than this does no harm."""

STALE_SHARE_OF_WINDOW: Final = 0.75
"""A sample older than this share of the window is stale: three scrape intervals, at four per window."""

Key = tuple[str, str]
"""Namespace and name of a service."""


@dataclass(frozen=True)
class Limits:
    """When data is too old or too early.

    Attributes:
        window: seconds over which rates are taken.
        grace: seconds after becoming ready during which a replica need not have data: discovery, the first two
            scrapes and a rate over them.
    """

    window: float
    grace: float

    @property
    def max_age(self) -> float:
        """Seconds after which a sample is stale."""
        return self.window * STALE_SHARE_OF_WINDOW


@dataclass(frozen=True)
class Objectives:
    """What a service's users should see; seconds.

    Attributes:
        percentile: percentile of the targets, as a share (0.95).
        targets: seconds, by name of the latency.
    """

    percentile: float
    targets: Mapping[str, float]


@dataclass
class ServiceSamples:
    """The samples of one service, sorted by what they are about.

    Attributes:
        pods: value per signal, per pod.
        finished: requests ended per second, per pod and reason.
        totals: value per signal of the service.
        edges: pairs of bucket edge and count, per signal.
    """

    pods: dict[str, dict[Signal, float]] = field(default_factory=dict)
    finished: dict[str, dict[str, float]] = field(default_factory=dict)
    totals: dict[Signal, float] = field(default_factory=dict)
    edges: dict[Signal, list[tuple[float, float]]] = field(default_factory=dict)


_LATENCIES: Final = {
    "ttft": Signal.TTFT_BUCKETS,
    "tpot": Signal.TPOT_BUCKETS,
    "e2e": Signal.E2E_BUCKETS,
    "queueTime": Signal.QUEUE_TIME_BUCKETS,
}
_PER: Final = {query.signal: query.per for query in query_table(60.0)}
_LOWEST: Final = frozenset({Signal.SCRAPED_AT, Signal.UP})
_HIGHEST: Final = frozenset({Signal.KV_USAGE})


def by_service(reading: Reading) -> dict[Key, ServiceSamples]:
    """Sort a tick's samples by service. However many series carry a signal of a pod, they become one value."""
    services: dict[Key, ServiceSamples] = {}
    for signal, samples in reading.answers.items():
        per = _PER[signal]
        if per is Per.SERVER:
            continue
        for sample in samples:
            labels = sample.labels
            key = (labels.get(names.SERIES_NAMESPACE, ""), labels.get(names.SERIES_SERVICE, ""))
            service = services.get(key)
            if service is None:
                service = services[key] = ServiceSamples()
            if per is Per.POD:
                _enter_pod(service, signal, sample)
            elif series.LABEL_BUCKET in labels:
                service.edges.setdefault(signal, []).append((float(labels[series.LABEL_BUCKET]), sample.value))
            else:
                service.totals[signal] = service.totals.get(signal, 0.0) + sample.value
    return services


def _enter_pod(service: ServiceSamples, signal: Signal, sample: Sample) -> None:
    """Add one pod's sample to what is known of the pod."""
    pod = sample.labels.get(names.SERIES_POD, "")
    if signal is Signal.FINISHED:
        reasons = service.finished.setdefault(pod, {})
        reason = sample.labels.get(series.LABEL_FINISHED_REASON, "")
        reasons[reason] = reasons.get(reason, 0.0) + sample.value
        return
    values = service.pods.setdefault(pod, {})
    known = values.get(signal)
    if known is None:
        values[signal] = sample.value
    elif signal in _LOWEST:
        values[signal] = min(known, sample.value)
    elif signal in _HIGHEST:
        values[signal] = max(known, sample.value)
    else:
        values[signal] = known + sample.value


def observe(
    reading: Reading,
    samples: ServiceSamples | None,
    pods: Collection[PodFacts],
    objectives: Objectives,
    limits: Limits,
    revision: str | None = None,
) -> Observation:
    """What is known of one service now.

    Args:
        reading: the tick's reading, for its time and what went wrong.
        samples: the service's part of it; None when there is none.
        pods: the service's pods as the API server has them.
        objectives: percentile and targets.
        limits: when data is too old or too early.
        revision: of the pods that the recommendation is of; None when that is not known.
    """
    serving = [pod for pod in pods if pod.serving]
    samples = samples or ServiceSamples()
    quality = assess(reading, samples, serving, limits)
    readings = tuple(_pod_reading(pod, samples, reading.at) for pod in serving)
    bare = Observation(
        reading.at,
        quality,
        serving=len(serving),
        starting=sum(not pod.ready and not pod.leaving for pod in pods),
        leaving=sum(pod.leaving for pod in pods),
        outdated=sum(None not in (revision, pod.revision) and pod.revision != revision for pod in serving),
        pods=readings,
    )
    if not quality.usable:
        return bare
    here = {pod.name for pod in serving}
    started, growth = _sum(samples, Signal.STARTED), _sum(samples, Signal.WAITING_GROWTH)
    latencies, requests = _latencies(samples, objectives, limits)
    length_count = samples.totals.get(Signal.LENGTH_COUNT, 0.0)
    return replace(
        bare,
        arrivals=max(started + growth, 0.0),
        started=started,
        finished=_finished(samples),
        running=_sum(samples, Signal.RUNNING, here),
        running_mean=_sum(samples, Signal.RUNNING_MEAN, here),
        waiting=_sum(samples, Signal.WAITING, here),
        prompt_tokens=_sum(samples, Signal.PROMPT_TOKENS),
        generation_tokens=_sum(samples, Signal.GENERATION_TOKENS),
        preemptions=_sum(samples, Signal.PREEMPTIONS),
        kv_usage=max((pod.kv_usage for pod in readings if pod.kv_usage is not None), default=None),
        input_tokens_mean=_ratio(samples.totals.get(Signal.PROMPT_LENGTH_SUM), length_count),
        output_tokens_mean=_ratio(samples.totals.get(Signal.OUTPUT_LENGTH_SUM), length_count),
        requests=requests,
        latencies=latencies,
    )


def assess(reading: Reading, samples: ServiceSamples, serving: Collection[PodFacts], limits: Limits) -> Quality:
    """Whether the data of one service can be acted on: the first check that fails says why not."""
    if reading.unreachable is not None:
        return Quality(Problem.UNREACHABLE, reading.unreachable, coverage=0.0)
    if abs(reading.skew) > MAX_SKEW_SECONDS:
        ahead = "ahead of" if reading.skew > 0 else "behind"
        message = f"Prometheus' clock is {abs(reading.skew):.0f} s {ahead} this machine's: set both by NTP"
        return Quality(Problem.CLOCK_SKEW, message, coverage=0.0)
    if reading.failures:
        signal, said = next(iter(reading.failures.items()))
        message = f"{len(reading.failures)} of Prometheus' queries failed, {signal} with: {said}"
        return Quality(Problem.QUERY_FAILED, message, coverage=0.0)
    if reading.warnings:
        return Quality(Problem.INCOMPLETE_ANSWER, f"Prometheus warns: {reading.warnings[0]}", coverage=0.0)
    expected = [pod for pod in serving if pod.ready_since is None or reading.at - pod.ready_since > limits.grace]
    return _coverage(reading, samples, expected, limits)


def _coverage(reading: Reading, samples: ServiceSamples, expected: Collection[PodFacts], limits: Limits) -> Quality:
    """Which expected replicas have fresh, finite and complete data."""
    faults: dict[Problem, list[str]] = {}
    ages: dict[str, float] = {}
    for pod in expected:
        values = samples.pods.get(pod.name, {})
        if Signal.SCRAPED_AT in values:
            ages[pod.name] = reading.at - values[Signal.SCRAPED_AT]
        fault = _fault(values, ages.get(pod.name), limits)
        if fault is not None:
            faults.setdefault(fault, []).append(pod.name)
    missing = tuple(sorted(name for pods in faults.values() for name in pods))
    coverage = 1.0 - len(missing) / len(expected) if expected else 1.0
    age = max(ages.values(), default=None)
    if not missing:
        broken = [name for name, values in samples.pods.items() if _not_finite(values)]
        if broken and {pod.name for pod in expected} & set(broken):
            return Quality(Problem.NOT_A_NUMBER, _listing("NaN or infinity from", broken), age, coverage)
        return Quality(age=age, coverage=coverage)
    if coverage >= MIN_COVERAGE and Problem.NOT_A_NUMBER not in faults:
        return Quality(age=age, coverage=coverage, missing=missing)
    problem, message = _verdict(faults, samples, len(expected), ages, limits)
    return Quality(problem, message, age, coverage, missing)


def _fault(values: Mapping[Signal, float], age: float | None, limits: Limits) -> Problem | None:
    """What is wrong with one replica's data."""
    if _not_finite(values):
        return Problem.NOT_A_NUMBER
    if age is None:
        return Problem.NO_DATA
    if age > limits.max_age:
        return Problem.STALE
    return None if all(signal in values for signal in REQUIRED) else Problem.PARTIAL


def _not_finite(values: Mapping[Signal, float]) -> bool:
    return not all(map(math.isfinite, values.values()))


def _verdict(
    faults: Mapping[Problem, list[str]],
    samples: ServiceSamples,
    expected: int,
    ages: Mapping[str, float],
    limits: Limits,
) -> tuple[Problem, str]:
    """The one problem to name for a service, and its line: the worst fault, or partial when only some have it."""
    order = (Problem.NOT_A_NUMBER, Problem.STALE, Problem.NO_DATA, Problem.PARTIAL)
    worst = next(problem for problem in order if problem in faults)
    pods = faults[worst]
    everyone = sum(map(len, faults.values())) == expected
    if worst is Problem.NOT_A_NUMBER:
        return worst, _listing("NaN or infinity from", pods)
    if worst is Problem.STALE:
        oldest = max(ages[name] for name in pods)
        text = f"the last sample is {oldest:.0f} s old, more than {limits.max_age:.0f} s"
        return Problem.STALE if everyone else Problem.PARTIAL, _listing(f"{text}: of", pods)
    if worst is Problem.NO_DATA:
        down = [name for name in pods if samples.pods.get(name, {}).get(Signal.UP) == 0.0]
        why = _listing("scrapes fail (up is 0) of", down) if down else _listing("Prometheus has no series of", pods)
        hint = "" if down else ": does it select the PodMonitor?"
        return Problem.NO_DATA if everyone else Problem.PARTIAL, f"{len(pods)} of {expected} replicas: {why}{hint}"
    lacking = sorted({str(signal) for name in pods for signal in REQUIRED if signal not in samples.pods.get(name, {})})
    return worst, _listing(f"no {', '.join(lacking)} yet from", pods)


def _listing(text: str, pods: Collection[str], shown: int = 3) -> str:
    """`text a, b, c and 4 more`."""
    first = ", ".join(sorted(pods)[:shown])
    return f"{text} {first}" + (f" and {len(pods) - shown} more" if len(pods) > shown else "")


def _pod_reading(pod: PodFacts, samples: ServiceSamples, at: float) -> PodReading:
    """One replica's own measurements; what is not finite is None."""
    name = pod.name
    values = {signal: value for signal, value in samples.pods.get(name, {}).items() if math.isfinite(value)}
    finished = samples.finished.get(name)
    scraped_at = values.get(Signal.SCRAPED_AT)
    return PodReading(
        name,
        age=None if scraped_at is None else at - scraped_at,
        running=values.get(Signal.RUNNING),
        running_floor=values.get(Signal.RUNNING_FLOOR),
        waiting=values.get(Signal.WAITING),
        waiting_floor=values.get(Signal.WAITING_FLOOR),
        started=values.get(Signal.STARTED),
        errors=None if finished is None else finished.get(series.FINISHED_ERROR, 0.0),
        finished=None if finished is None else sum(finished.values()),
        generation_tokens=values.get(Signal.GENERATION_TOKENS),
        steps=values.get(Signal.STEPS),
        kv_usage=values.get(Signal.KV_USAGE),
        itl=_ratio(values.get(Signal.ITL_SUM), values.get(Signal.ITL_COUNT)),
        ttft=_ratio(values.get(Signal.TTFT_SUM), values.get(Signal.STARTED)),
        revision=pod.revision,
    )


def _sum(samples: ServiceSamples, signal: Signal, of: Collection[str] | None = None) -> float:
    """A signal over the whole service.

    Args:
        samples: the service's samples.
        signal: what to add up.
        of: these pods only. Levels are of the pods that serve: what runs on a pod that leaves will finish there.
            Rates are of every pod that had data in the window, also of one gone since: its requests did arrive, and
            the pods that took over do not show them for their whole window yet.
    """
    chosen: Iterable[Mapping[Signal, float]] = (
        samples.pods.values() if of is None else (samples.pods[name] for name in of if name in samples.pods)
    )
    return sum(value for pod in chosen if (value := pod.get(signal)) is not None and math.isfinite(value))


def _finished(samples: ServiceSamples) -> dict[str, float]:
    """Requests ended per second, by reason."""
    result: dict[str, float] = {}
    for reasons in samples.finished.values():
        for reason, rate in reasons.items():
            if math.isfinite(rate):
                result[reason] = result.get(reason, 0.0) + rate
    return result


def _latencies(samples: ServiceSamples, objectives: Objectives, limits: Limits) -> tuple[dict[str, Latency], float]:
    """The latencies over the window, and how many requests the first-token times are of."""
    found: dict[str, Buckets] = {}
    for name, signal in _LATENCIES.items():
        observed = histogram.buckets(samples.edges.get(signal, ()))
        if observed is not None:
            found[name] = observed
    latencies = {}
    for name, observed in found.items():
        target = objectives.targets.get(name)
        attainment = 1.0 if target is None else histogram.share_below(observed, target)
        latencies[name] = Latency(histogram.quantile(observed, objectives.percentile), target, attainment)
    requests = found["ttft"].total * limits.window if "ttft" in found else 0.0
    return latencies, requests


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    """A quotient; None when there is nothing to divide, or by."""
    if numerator is None or denominator is None or not denominator > 0 or not math.isfinite(numerator):
        return None
    return numerator / denominator
