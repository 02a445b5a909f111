"""Corrections applied to predictions.

A search over configurations applies them where it makes a ledger and a replica:

    ledger = corrected_ledger(facts, gpu, config, corrections)
    replica = Replica.of(facts, gpu, config, workload, ledger=ledger)
    replica = corrected_replica(replica, facts, gpu, corrections)

With no corrections, or none for that engine, all three return what they would without.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.efficiency import efficiency_of
from plimsoll_recommender.latency.predict import UNCALIBRATED, at_point, closed_loop, load_line, open_loop
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.memory.ledger import MemoryLedger, memory_ledger
from plimsoll_recommender.observation.posterior import Z90
from plimsoll_recommender.observation.quantities import Load, Quantity, prior_of
from plimsoll_recommender.observation.step_time import LOADS, CorrectedStepTime
from plimsoll_recommender.prediction import Latency, Prediction
from plimsoll_recommender.traffic import Objectives, Workload

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Correction, Corrections, Factor

SLACK_GIB: Final = 0.02
"""Half the width added to a corrected KV cache's interval: the logs' rounding over a ledger's parts."""


def corrected_ledger(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig | None = None,
    corrections: Corrections | None = None,
    *,
    weights_gib: float | None = None,
    gpu_total_gib: float | None = None,
) -> MemoryLedger:
    """The memory ledger, corrected by what was observed.

    Args:
        facts: the model.
        gpu: the accelerator.
        config: engine settings.
        corrections: what was observed; None corrects nothing.
        weights_gib, gpu_total_gib: measured values that replace estimates and their corrections.

    Raises:
        RecommenderError: as `memory_ledger`.
    """
    settings = config or EngineConfig()
    plain = memory_ledger(facts, gpu, settings, weights_gib=weights_gib, gpu_total_gib=gpu_total_gib)
    if corrections is None:
        return plain
    overhead = plain.activation_peak_gib + plain.non_torch_gib
    known = corrections.correction(facts.name, gpu.product, settings, overhead_gib=overhead)
    if not known.of_memory:
        return plain
    total = gpu_total_gib if gpu_total_gib is not None else plain.gpu_total_gib * known.gpu_total.value
    weights = plain.weights_gib * (1.0 if weights_gib is not None else known.weights.value)
    moved = overhead * (known.overhead.value - 1)
    if plain.cuda_graphs_in_budget:
        moved += plain.cuda_graphs_gib * (known.graphs.value - 1)
    if settings.pipeline_parallel_size == 1 and weights + moved > 0:
        # The ledger takes measured weights; whatever else it misses moves the KV cache by as much.
        shifted = memory_ledger(facts, gpu, settings, weights_gib=weights + moved, gpu_total_gib=total)
    else:
        # Stages hold different weights, so the budget of all is moved instead.
        share = plain.requested_gib / plain.gpu_total_gib
        moved += weights - plain.weights_gib
        shifted = memory_ledger(facts, gpu, settings, gpu_total_gib=max(total - moved / share, 1e-3))
    return _restated(shifted, plain, known, weights, total)


def _restated(
    shifted: MemoryLedger, plain: MemoryLedger, known: Correction, weights: float, total: float
) -> MemoryLedger:
    """A shifted ledger with every part as it is: what was moved is put back where it belongs."""
    overhead = known.overhead
    parts = (
        (weights, known.weights),
        (overhead.value * (plain.activation_peak_gib + plain.non_torch_gib), overhead),
        (known.graphs.value * plain.cuda_graphs_gib if plain.cuda_graphs_in_budget else 0.0, known.graphs),
    )
    spread = SLACK_GIB + math.hypot(*(size * (factor.high / factor.value - 1) for size, factor in parts))
    learned = overhead.value != 1.0
    kv = shifted.kv_cache_gib
    ledger = replace(
        shifted,
        gpu_total_gib=total,
        requested_gib=total * plain.requested_gib / plain.gpu_total_gib,
        weights_gib=weights,
        activation_peak_gib=plain.activation_peak_gib * overhead.value,
        non_torch_gib=plain.non_torch_gib * overhead.value,
        cuda_graphs_gib=plain.cuda_graphs_gib * known.graphs.value,
        kv_cache_low_gib=max(0.0, kv - spread) if learned else shifted.kv_cache_low_gib,
        kv_cache_high_gib=kv + spread if learned else shifted.kv_cache_high_gib,
    )
    if ledger.fits and ledger.unused_gib < 0:
        outside = ledger.gpu_total_gib - ledger.requested_gib
        return replace(
            ledger,
            fits=False,
            reason=f"gpu_memory_utilization leaves {outside:.2f} GiB of {total:.2f}, the CUDA context and graphs as "
            f"observed need {outside - ledger.unused_gib:.2f}: lower it",
        )
    return ledger


def corrected_replica(
    replica: Replica, facts: ModelFacts, gpu: Accelerator, corrections: Corrections | None = None
) -> Replica:
    """A replica whose step times are corrected by what was observed at loads near each."""
    if corrections is None:
        return replica
    workload = replica.workload

    def known(running: float) -> Correction:
        load = Load.of(running, workload.input_tokens)
        return corrections.correction(facts.name, gpu.product, replica.config, load)

    if not known(1.0).of_time:
        return replica
    decode = [known(running).decode.value for running in LOADS]
    # In a closed loop the load is known; prompts that start together then find none decoding.
    held = workload.concurrency
    prefill = [known(running if held is None else held).prefill.value for running in LOADS]
    return replace(replica, model=CorrectedStepTime.of(replica.model, _rising(replica, decode), prefill))


def _rising(replica: Replica, factors: Sequence[float]) -> list[float]:
    """Factors raised where a step with more sequences would become shorter than one with fewer."""
    steps = [replica.model.mixed_seconds(0.0, 0.0, running, replica.decode_context) for running in LOADS]
    corrected = [factor * step for factor, step in zip(factors, steps, strict=True)]
    return [high / step for high, step in zip(itertools.accumulate(corrected, max), steps, strict=True)]


def scaled_replica(replica: Replica, decode_factor: float, prefill_factor: float) -> Replica:
    """A replica with the same factors on its step times at every load."""
    if decode_factor == 1.0 and prefill_factor == 1.0:
        return replica
    pair = [decode_factor] * len(LOADS), [prefill_factor] * len(LOADS)
    return replace(replica, model=CorrectedStepTime.of(replica.model, *pair))


def corrected_predict(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    workload: Workload,
    objectives: Objectives | None = None,
    corrections: Corrections | None = None,
) -> Prediction:
    """Latency and throughput of one replica, corrected by what was observed.

    Args:
        facts, gpu, config, workload, objectives: as `predict`.
        corrections: what was observed; None corrects nothing.

    Raises:
        InfeasibleError: when the engine would not start with these settings.
        RecommenderError: settings that the model cannot be divided by.
    """
    from plimsoll_recommender.latency.predict import predict

    if corrections is None or not corrections.knows(facts.name, gpu.product, config):
        return predict(facts, gpu, config, workload, objectives)
    ranks = config.data_parallel_size
    share = workload_of_rank(workload, ranks)
    ledger = corrected_ledger(facts, gpu, config, corrections)
    replica = corrected_replica(Replica.of(facts, gpu, config, share, ledger=ledger), facts, gpu, corrections)
    wide = 1.0 if efficiency_of(gpu.architecture).calibrated else UNCALIBRATED
    found = predicted_by(replica, share, objectives, wide)
    load = Load.of(found.running, share.input_tokens)
    known = corrections.correction(facts.name, gpu.product, config, load)
    return _of_ranks(_narrowed(found, known, gpu.product), ranks)


def _narrowed(found: Prediction, known: Correction, product: str) -> Prediction:
    """A prediction whose intervals are those of its corrections, where they are narrower."""

    def narrowed(latency: Latency, quantity: Quantity, factor: Factor) -> Latency:
        if not factor.observations:
            return latency
        noise = prior_of(quantity, product).noise
        error = math.exp(math.hypot(math.log(factor.high / factor.value), Z90 * noise))
        low, high = latency.mean / error, latency.mean * error
        return replace(latency, low=max(low, latency.low), high=min(high, latency.high))

    return replace(
        found,
        ttft=narrowed(found.ttft, Quantity.PREFILL, known.prefill),
        tpot=narrowed(found.tpot, Quantity.DECODE, known.decode),
        e2e=narrowed(found.e2e, Quantity.DECODE, known.decode),
    )


def predicted_by(
    replica: Replica, workload: Workload, objectives: Objectives | None = None, wide: float = 1.0
) -> Prediction:
    """The prediction of one rank's replica under its share of the workload."""
    line = load_line(replica, objectives)
    if workload.concurrency is not None:
        return closed_loop(replica, workload.concurrency, line.rate, wide)
    if workload.requests_per_second is not None:
        return open_loop(replica, workload.requests_per_second, line.rate, wide)
    return at_point(replica, line, line.rate, wide)


def workload_of_rank(workload: Workload, ranks: int) -> Workload:
    """What one data-parallel rank gets when requests are spread evenly."""
    if workload.concurrency is not None:
        return replace(workload, concurrency=workload.concurrency / ranks)
    if workload.requests_per_second is not None:
        return replace(workload, requests_per_second=workload.requests_per_second / ranks)
    return workload


def _of_ranks(one: Prediction, ranks: int) -> Prediction:
    """All data-parallel ranks together: latencies of one, counts and rates of all."""
    if ranks == 1:
        return one
    through = one.throughput
    rates = {field.name: getattr(through, field.name) * ranks for field in fields(through)}
    return replace(
        one,
        throughput=replace(through, **rates),
        load_line_rps=one.load_line_rps * ranks,
        running=one.running * ranks,
        waiting=one.waiting * ranks,
    )
