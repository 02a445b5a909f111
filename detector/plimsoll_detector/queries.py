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
    running = f"{series.RUNNING}{{{_SCRAPED}}}"
    per_second, tokens, seconds = "1/s", "tokens/s", "s"
    return (
        Query(Signal.CLOCK, "vector(time())", seconds, Per.SERVER),
        Query(Signal.SCRAPED_AT, _pod("min", f"timestamp({running})"), seconds, Per.POD),
        Query(Signal.UP, _pod("min", f"up{{{_SCRAPED}}}"), "1", Per.POD),
        Query(Signal.RUNNING, _pod("sum", running), "requests", Per.POD, required=True),
        Query(Signal.RUNNING_MEAN, _pod("sum", f"avg_over_time({running}[{window}])"), "requests", Per.POD),
        Query(Signal.RUNNING_FLOOR, _pod("sum", f"min_over_time({running}[{window}])"), "requests", Per.POD),
        Query(Signal.WAITING, _waiting("", window), "requests", Per.POD, required=True),
        Query(Signal.WAITING_FLOOR, _waiting("min_over_time", window), "requests", Per.POD),
        Query(Signal.WAITING_GROWTH, _waiting("deriv", window), per_second, Per.POD, required=True),
        Query(Signal.KV_USAGE, _pod("max", f"{series.KV_CACHE_USAGE}{{{_SCRAPED}}}"), "1", Per.POD),
        Query(
            Signal.STARTED,
            _pod("sum", _rate(series.count(series.TIME_TO_FIRST_TOKEN), window)),
            per_second,
            Per.POD,
            required=True,
        ),
        Query(
            Signal.FINISHED,
            _pod("sum", _rate(series.REQUEST_SUCCESS, window), extra=f", {series.LABEL_FINISHED_REASON}"),
            per_second,
            Per.POD,
        ),
        Query(Signal.PROMPT_TOKENS, _pod("sum", _rate(series.PROMPT_TOKENS, window)), tokens, Per.POD),
        Query(
            Signal.GENERATION_TOKENS,
            _pod("sum", _rate(series.GENERATION_TOKENS, window)),
            tokens,
            Per.POD,
            required=True,
        ),
        Query(Signal.PREEMPTIONS, _pod("sum", _rate(series.PREEMPTIONS, window)), per_second, Per.POD),
        Query(Signal.STEPS, _pod("sum", _rate(series.count(series.ITERATION_TOKENS), window)), per_second, Per.POD),
        Query(Signal.ITL_SUM, _pod("sum", _rate(series.total(series.INTER_TOKEN_LATENCY), window)), "s/s", Per.POD),
        Query(
            Signal.ITL_COUNT, _pod("sum", _rate(series.count(series.INTER_TOKEN_LATENCY), window)), per_second, Per.POD
        ),
        Query(Signal.TTFT_SUM, _pod("sum", _rate(series.total(series.TIME_TO_FIRST_TOKEN), window)), "s/s", Per.POD),
        Query(
            Signal.PROMPT_LENGTH_SUM,
            _per_service(series.total(series.REQUEST_PROMPT_TOKENS), lengths),
            tokens,
            Per.SERVICE,
        ),
        Query(
            Signal.OUTPUT_LENGTH_SUM,
            _per_service(series.total(series.REQUEST_GENERATION_TOKENS), lengths),
            tokens,
            Per.SERVICE,
        ),
        Query(
            Signal.LENGTH_COUNT,
            _per_service(series.count(series.REQUEST_GENERATION_TOKENS), lengths),
            per_second,
            Per.SERVICE,
        ),
        Query(Signal.TTFT_BUCKETS, _buckets(series.TIME_TO_FIRST_TOKEN, window), per_second, Per.SERVICE),
        Query(Signal.TPOT_BUCKETS, _buckets(series.TIME_PER_OUTPUT_TOKEN, window), per_second, Per.SERVICE),
        Query(Signal.E2E_BUCKETS, _buckets(series.E2E_LATENCY, window), per_second, Per.SERVICE),
        Query(Signal.QUEUE_TIME_BUCKETS, _buckets(series.QUEUE_TIME, window), per_second, Per.SERVICE),
    )


REQUIRED: Final = tuple(query.signal for query in query_table(60.0) if query.required)
"""Signals without which nothing is decided."""
