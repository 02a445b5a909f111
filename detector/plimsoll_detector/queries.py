"""What the detector asks Prometheus: one instant query per signal, for all services at once.

The number of queries per tick does not depend on how many services or replicas there are. Levels and rates come per
pod, so that one sick replica shows and coverage can be counted; histograms come per service, where percentiles are
needed, because 22 buckets of every pod would make the answer ten times as large.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from plimsoll_api import names, series

LENGTHS_WINDOWS: Final = 5
"""Windows over which mean lengths are taken: they drift slowly, and few requests end within one window."""

_SCRAPED: Final = f'{names.SERIES_SERVICE}!=""'
_BY_POD: Final = f"{names.SERIES_NAMESPACE}, {names.SERIES_SERVICE}, {names.SERIES_POD}"
_BY_SERVICE: Final = f"{names.SERIES_NAMESPACE}, {names.SERIES_SERVICE}"


class Signal(StrEnum):
    """What is measured."""

    CLOCK = "clock"
    SCRAPED_AT = "scraped_at"
    UP = "up"
    RUNNING = "running"
    RUNNING_MEAN = "running_mean"
    RUNNING_FLOOR = "running_floor"
    WAITING = "waiting"
    WAITING_FLOOR = "waiting_floor"
    WAITING_GROWTH = "waiting_growth"
    KV_USAGE = "kv_usage"
    STARTED = "started"
    FINISHED = "finished"
    PROMPT_TOKENS = "prompt_tokens"
    GENERATION_TOKENS = "generation_tokens"
    PREEMPTIONS = "preemptions"
    STEPS = "steps"
    ITL_SUM = "itl_sum"
    ITL_COUNT = "itl_count"
    TTFT_SUM = "ttft_sum"
    PROMPT_LENGTH_SUM = "prompt_length_sum"
    OUTPUT_LENGTH_SUM = "output_length_sum"
    LENGTH_COUNT = "length_count"
    TTFT_BUCKETS = "ttft_buckets"
    TPOT_BUCKETS = "tpot_buckets"
    E2E_BUCKETS = "e2e_buckets"
    QUEUE_TIME_BUCKETS = "queue_time_buckets"


REQUIRED: Final = frozenset(
    {Signal.RUNNING, Signal.WAITING, Signal.WAITING_GROWTH, Signal.STARTED, Signal.GENERATION_TOKENS}
)
"""Signals without which nothing is decided."""


class Per(StrEnum):
    """What one sample of an answer is about."""

    SERVER = "server"
    POD = "pod"
    SERVICE = "service"


@dataclass(frozen=True)
class Query:
    """One query of the table.

    Attributes:
        signal: what it measures.
        promql: the expression.
        unit: unit of its values.
        per: what one sample is about.
        required: whether a pod without it is a pod without data. The others are absent from engines that never
            preempted, never finished a request, or are of an older release.
    """

    signal: Signal
    promql: str
    unit: str
    per: Per
    required: bool = False


def _pod(reduction: str, expression: str, *, extra: str = "") -> str:
    return f"{reduction} by ({_BY_POD}{extra}) ({expression})"


def _rate(metric: str, window: str) -> str:
    return f"rate({metric}{{{_SCRAPED}}}[{window}])"


def _waiting(function: str, window: str) -> str:
    """Requests waiting for room, per pod; engines that do not tell the reason count all that wait."""
    capacity = f'{series.WAITING_BY_REASON}{{{_SCRAPED},{series.LABEL_REASON}="{series.REASON_CAPACITY}"}}'
    every = f"{series.WAITING}{{{_SCRAPED}}}"
    if function:
        capacity, every = f"{function}({capacity}[{window}])", f"{function}({every}[{window}])"
    return f"{_pod('sum', capacity)} or {_pod('sum', every)}"


def _buckets(histogram: str, window: str) -> str:
    metric = _rate(series.bucket(histogram), window)
    return f"sum by ({_BY_SERVICE}, {series.LABEL_BUCKET}) ({metric})"


def _per_service(metric: str, window: str) -> str:
    return f"sum by ({_BY_SERVICE}) ({_rate(metric, window)})"


def query_table(window_seconds: float) -> tuple[Query, ...]:
    """Every query of one tick.

    Args:
        window_seconds: over which rates are taken; at least four scrape intervals, because Prometheus 3 leaves a
            range's left end open and a rate needs two samples.
    """
    window = f"{round(window_seconds * 1000)}ms"
    lengths = f"{round(window_seconds * 1000) * LENGTHS_WINDOWS}ms"
    clock = Query(Signal.CLOCK, "vector(time())", "s", Per.SERVER)
    return (clock, *_levels(window), *_rates(window), *_distributions(window, lengths))


def _levels(window: str) -> tuple[Query, ...]:
    """What a replica holds."""
    running = f"{series.RUNNING}{{{_SCRAPED}}}"
    return tuple(
        Query(signal, promql, unit, Per.POD, signal in REQUIRED)
        for signal, promql, unit in (
            (Signal.SCRAPED_AT, _pod("min", f"timestamp({running})"), "s"),
            (Signal.UP, _pod("min", f"up{{{_SCRAPED}}}"), "1"),
            (Signal.RUNNING, _pod("sum", running), "requests"),
            (Signal.RUNNING_MEAN, _pod("sum", f"avg_over_time({running}[{window}])"), "requests"),
            (Signal.RUNNING_FLOOR, _pod("sum", f"min_over_time({running}[{window}])"), "requests"),
            (Signal.WAITING, _waiting("", window), "requests"),
            (Signal.WAITING_FLOOR, _waiting("min_over_time", window), "requests"),
            (Signal.WAITING_GROWTH, _waiting("deriv", window), "1/s"),
            (Signal.KV_USAGE, _pod("max", f"{series.KV_CACHE_USAGE}{{{_SCRAPED}}}"), "1"),
        )
    )


def _rates(window: str) -> tuple[Query, ...]:
    """What a replica does."""
    by_reason = f", {series.LABEL_FINISHED_REASON}"
    finished = _pod("sum", _rate(series.REQUEST_SUCCESS, window), extra=by_reason)
    rates = tuple(
        Query(signal, _pod("sum", _rate(metric, window)), unit, Per.POD, signal in REQUIRED)
        for signal, metric, unit in (
            (Signal.STARTED, series.count(series.TIME_TO_FIRST_TOKEN), "1/s"),
            (Signal.PROMPT_TOKENS, series.PROMPT_TOKENS, "tokens/s"),
            (Signal.GENERATION_TOKENS, series.GENERATION_TOKENS, "tokens/s"),
            (Signal.PREEMPTIONS, series.PREEMPTIONS, "1/s"),
            (Signal.STEPS, series.count(series.ITERATION_TOKENS), "1/s"),
            (Signal.ITL_SUM, series.total(series.INTER_TOKEN_LATENCY), "s/s"),
            (Signal.ITL_COUNT, series.count(series.INTER_TOKEN_LATENCY), "1/s"),
            (Signal.TTFT_SUM, series.total(series.TIME_TO_FIRST_TOKEN), "s/s"),
        )
    )
    return (Query(Signal.FINISHED, finished, "1/s", Per.POD), *rates)


def _distributions(window: str, lengths: str) -> tuple[Query, ...]:
    """Lengths and latencies of a service's requests."""
    means = (
        (Signal.PROMPT_LENGTH_SUM, series.total(series.REQUEST_PROMPT_TOKENS), "tokens/s"),
        (Signal.OUTPUT_LENGTH_SUM, series.total(series.REQUEST_GENERATION_TOKENS), "tokens/s"),
        (Signal.LENGTH_COUNT, series.count(series.REQUEST_GENERATION_TOKENS), "1/s"),
    )
    latencies = (
        (Signal.TTFT_BUCKETS, series.TIME_TO_FIRST_TOKEN),
        (Signal.TPOT_BUCKETS, series.TIME_PER_OUTPUT_TOKEN),
        (Signal.E2E_BUCKETS, series.E2E_LATENCY),
        (Signal.QUEUE_TIME_BUCKETS, series.QUEUE_TIME),
    )
    return (
        *(Query(signal, _per_service(metric, lengths), unit, Per.SERVICE) for signal, metric, unit in means),
        *(Query(signal, _buckets(histogram, window), "1/s", Per.SERVICE) for signal, histogram in latencies),
    )
