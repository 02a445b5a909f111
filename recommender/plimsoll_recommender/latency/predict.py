"""Latency and throughput of one configuration under a workload, in closed and open loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.distributions import latency, quantile
from plimsoll_recommender.latency.efficiency import efficiency_of
from plimsoll_recommender.latency.replica import (
    OperatingPoint,
    Replica,
)
from plimsoll_recommender.prediction import Prediction, Throughput
from plimsoll_recommender.traffic import Objectives, Workload

STEP_ERROR: Final = 0.21
TTFT_ERROR: Final = 0.50
"""Relative error of the mean within which nine of ten measurements of models that calibration had not seen lie.

The 90 % quantiles of the held-out residuals that `bench.recommender_latency` prints (a model left out on all GPUs)."""

UNCALIBRATED: Final = 2.0
"""How much wider both are on a generation whose efficiency is transferred."""

LOAD_LINE_STEPS: Final = 24
"""Halvings when searching the load line: 2^-24 of the slots."""


@dataclass(frozen=True)
class _Times:
    """Mean and coefficient of variation over requests of the three latencies."""

    ttft: float
    ttft_variation: float
    tpot: float
    tpot_variation: float
    e2e: float
    e2e_variation: float


def predict(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    workload: Workload,
    objectives: Objectives | None = None,
) -> Prediction:
    """Latency and throughput of one replica.

    Args:
        facts: the model.
        gpu: the accelerator.
        config: engine settings; what is None is what the engine would choose.
        workload: closed loop with `concurrency`, open loop with `requests_per_second`; with neither, the replica is
            predicted at its load line.
        objectives: what `load_line_rps` must meet; the saturation rate when None.

    Raises:
        InfeasibleError: when the engine would not start with these settings.
        RecommenderError: settings that the model cannot be divided by.
    """
    ranks = config.data_parallel_size
    share = _share_of(workload, ranks)
    replica = Replica.of(facts, gpu, config, share)
    line = load_line(replica, objectives)
    wide = 1.0 if efficiency_of(gpu.architecture).calibrated else UNCALIBRATED
    if share.concurrency is not None:
        found = closed_loop(replica, share.concurrency, line.rate, wide)
    elif share.requests_per_second is not None:
        found = open_loop(replica, share.requests_per_second, line.rate, wide)
    else:
        found = at_point(replica, line, line.rate, wide)
    return _over_ranks(found, ranks) if ranks > 1 else found


def _share_of(workload: Workload, ranks: int) -> Workload:
    """What one data-parallel rank gets when requests are spread evenly."""
    if workload.concurrency is not None:
        return replace(workload, concurrency=workload.concurrency / ranks)
    if workload.requests_per_second is not None:
        return replace(workload, requests_per_second=workload.requests_per_second / ranks)
    return workload


def _over_ranks(one: Prediction, ranks: int) -> Prediction:
    """All ranks together: latencies of one, counts and rates of all."""
    through = one.throughput
    return replace(
        one,
        throughput=Throughput(
            through.requests_per_second * ranks,
            through.output_tokens_per_second * ranks,
            through.total_tokens_per_second * ranks,
        ),
        load_line_rps=one.load_line_rps * ranks,
        running=one.running * ranks,
        waiting=one.waiting * ranks,
    )


def closed_loop(replica: Replica, concurrency: float, line: float, wide: float = 1.0) -> Prediction:
    """With `concurrency` requests in flight, each replaced when it ends."""
    limit = min(concurrency, replica.slots)
    point = _closed_point(replica, limit)
    waiting = max(0.0, concurrency - replica.slots)
    admission = waiting / point.rate if waiting else 0.0
    rivals = max(limit - 1.0, 0.0)
    wait = replica.prefill_wait(point, burstiness=1.0, rivals=rivals) + replica.burst_wait(point, rivals)
    times = _times(replica, point, wait + admission, admission_variation=0.0, open_loop=False)
    return _prediction(replica, point, times, waiting, line, wide, saturated=waiting > 0)


def open_loop(replica: Replica, rate: float, line: float, wide: float = 1.0) -> Prediction:
    """With requests arriving at `rate` per second whatever happens to them."""
    decoding = replica.decoding_for(rate)
    if decoding is None:
        point = replica.busiest()
        endless = _Times(math.inf, 0.0, point.step, 0.0, math.inf, 0.0)
        return _prediction(replica, point, endless, math.inf, line, wide, saturated=True)
    return at_point(replica, replica.at(decoding), line, wide)


def at_point(replica: Replica, point: OperatingPoint, line: float, wide: float = 1.0) -> Prediction:
    """In an open loop at a known operating point."""
    times = open_times(replica, point)
    waiting = point.rate * _admission_wait(replica, point)
    return _prediction(replica, point, times, waiting, line, wide, saturated=False)


def open_times(replica: Replica, point: OperatingPoint) -> _Times:
    """Latencies at an operating point in an open loop."""
    wait = replica.prefill_wait(point, replica.workload.burstiness)
    admission = _admission_wait(replica, point)
    return _times(replica, point, wait + admission, admission_variation=1.5, open_loop=True)


def _closed_point(replica: Replica, limit: float) -> OperatingPoint:
    """The steady state in which decoding and prefilling sequences together are `limit`."""
    decoding = min(limit, replica.most_decoding)
    for _ in range(12):
        point = replica.at(max(decoding, 1e-6))
        beside = point.rate * (point.prefill_time + replica.serving.request)
        decoding = 0.5 * decoding + 0.5 * min(max(limit - beside, 0.25 * limit), replica.most_decoding)
    return replica.at(max(decoding, 1e-6))


def _admission_wait(replica: Replica, point: OperatingPoint) -> float:
    """Mean seconds until a slot is free (Allen-Cunneen's approximation of G/G/c, c the slots)."""
    slots = replica.slots
    busy = min(point.running / slots, 0.9999)
    service = point.running / point.rate if point.rate else 0.0
    variability = 0.5 * (replica.workload.burstiness**2 + replica.output_variation**2)
    probability = math.pow(busy, math.sqrt(2 * (slots + 1)))
    return variability * probability * service / (slots * (1 - busy))


def _times(
    replica: Replica,
    point: OperatingPoint,
    wait: float,
    *,
    admission_variation: float,
    open_loop: bool,
) -> _Times:
    own = point.prefill_time
    ttft = replica.serving.request + wait + own
    spread_of_wait = wait * max(1.0, admission_variation if wait > own else 1.0)
    ttft_variation = math.hypot(own * replica.input_variation, spread_of_wait) / ttft
    generated = max(replica.workload.output_tokens - 1.0, 0.0)
    steps = max(replica.workload.output_tokens, 1.0)
    within = max(point.step_squares / point.step**2 - 1.0, 0.0) / steps
    # The number decoding varies like a Poisson count in an open loop; a step's time follows it in part.
    load = _sensitivity(replica, point) ** 2 / max(point.decoding, 1.0) if open_loop else 0.0
    tpot_variation = math.sqrt(within + load)
    e2e = ttft + generated * point.step
    e2e_variation = math.hypot(ttft * ttft_variation, generated * point.step * replica.output_variation) / e2e
    return _Times(ttft, ttft_variation, point.step, tpot_variation, e2e, e2e_variation)


def _sensitivity(replica: Replica, point: OperatingPoint) -> float:
    """d ln(step) / d ln(decoding), by a difference of a tenth."""
    more = replica.at(point.decoding * 1.1)
    return math.log(more.step / point.step) / math.log(1.1)


def load_line(replica: Replica, objectives: Objectives | None) -> OperatingPoint:
    """The busiest steady state at which the objectives hold; the rate is zero when not even one request meets them.

    Latencies rise with the number decoding, so the line is found by halving.
    """
    busiest = replica.busiest()
    if objectives is None or meets(replica, busiest, objectives):
        return busiest
    low, high = 0.0, replica.most_decoding
    for _ in range(LOAD_LINE_STEPS):
        middle = 0.5 * (low + high)
        if meets(replica, replica.at(middle), objectives):
            low = middle
        else:
            high = middle
        if high - low < 1e-3 * high:
            break
    if low <= 0:
        return replace(replica.at(1e-6), rate=0.0, decoding=0.0, running=0.0)
    return replica.at(low)


def meets(replica: Replica, point: OperatingPoint, objectives: Objectives) -> bool:
    """Whether an operating point in an open loop meets the objectives at their percentile."""
    return not violated(replica, point, objectives)


def violated(replica: Replica, point: OperatingPoint, objectives: Objectives) -> str:
    """The objective that an operating point misses by most (`ttft`, `tpot` or `e2e`), or an empty string."""
    times = open_times(replica, point)
    percentile = objectives.percentile
    worst, name = 1.0, ""
    for field, target, mean, variation in (
        ("ttft", objectives.ttft, times.ttft, times.ttft_variation),
        ("tpot", objectives.tpot, times.tpot, times.tpot_variation),
        ("e2e", objectives.e2e, times.e2e, times.e2e_variation),
    ):
        if target is not None:
            ratio = quantile(mean, variation, percentile) / target
            if ratio > worst:
                worst, name = ratio, field
    return name


def _prediction(
    replica: Replica,
    point: OperatingPoint,
    times: _Times,
    waiting: float,
    line: float,
    wide: float,
    *,
    saturated: bool,
) -> Prediction:
    workload = replica.workload
    usage = min(1.0, point.running / replica.slots_by_kv) if replica.slots_by_kv > 0 else 1.0
    return Prediction(
        ttft=latency(times.ttft, times.ttft_variation, TTFT_ERROR * wide),
        tpot=latency(times.tpot, times.tpot_variation, STEP_ERROR * wide),
        e2e=latency(times.e2e, times.e2e_variation, STEP_ERROR * wide),
        throughput=Throughput(
            requests_per_second=point.rate,
            output_tokens_per_second=point.rate * workload.output_tokens,
            total_tokens_per_second=point.rate * (workload.output_tokens + workload.input_tokens),
        ),
        load_line_rps=line,
        running=point.running,
        waiting=waiting,
        kv_cache_usage=usage,
        utilization=min(1.0, point.rate / replica.busiest().rate),
        bound=bound_of(replica, point, saturated=saturated),
        saturated=saturated,
    )


def bound_of(replica: Replica, point: OperatingPoint, *, saturated: bool) -> str:
    """What limits the replica at an operating point."""
    if saturated or point.running > 0.97 * replica.slots:
        return "KV cache" if replica.slots_by_kv < replica.config.max_num_seqs else "max_num_seqs"
    if point.prefill_busy > 0.5:
        return "compute"
    model = replica.model
    rows = point.decoding / model.stages
    reading = sum(rows * reader.memory * min(replica.decode_context, reader.limit) for reader in model.readers)
    compute = model.products_seconds(rows) - model.weights
    memory = model.weights + model.head_memory + reading
    if model.fixed + model.decode_launch > memory + compute:
        return "host"
    return "compute" if compute > memory else "memory bandwidth"
