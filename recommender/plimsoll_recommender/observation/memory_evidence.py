"""What a start-up teaches about a memory ledger."""

from __future__ import annotations

import math
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.model import GIB, ModelFacts
from plimsoll_recommender.memory.ledger import MemoryLedger, memory_ledger
from plimsoll_recommender.observation.observed import Evidence, StartUp
from plimsoll_recommender.observation.quantities import PLAUSIBLE, PRIORS, Load, Quantity

ROUNDING_GIB: Final = 0.005
"""Largest error of a figure that the log gives with two digits."""

CATALOGUE_GIB: Final = 0.15
"""How far the memory of one GPU may be from the catalogue's when the log does not state it."""

WEIGHTS_ESTIMATE: Final = 0.004
"""Error of estimated weights, as a share: the median of the published starts, with a margin."""


def memory_evidence(
    seen: StartUp, facts: ModelFacts, gpu: Accelerator, config: EngineConfig
) -> tuple[list[Evidence], list[str]]:
    """(evidence, what of the start-up cannot be true) of the ledger's parts.

    Args:
        seen: what the engine said.
        facts, gpu, config: what it ran, its own statements included.

    Raises:
        RecommenderError: parallelism that the model cannot be divided by.
    """
    plain = memory_ledger(facts, gpu, config, gpu_total_gib=_total(seen))
    one_stage = config.pipeline_parallel_size == 1
    found: list[tuple[Quantity, float, float, float]] = []
    total = _total(seen)
    if total is not None:
        found.append((Quantity.GPU_TOTAL, total, gpu.memory_gib, ROUNDING_GIB))
    # Ranks of a pipeline hold different weights and the log does not say whose it gives.
    weights = seen.weights_gib if one_stage else None
    if weights is not None:
        found.append((Quantity.WEIGHTS, weights, plain.weights_gib, ROUNDING_GIB))
    graphs = _graphs(seen, plain)
    if graphs is not None and plain.cuda_graphs_gib > 0:
        found.append((Quantity.GRAPHS, graphs, plain.cuda_graphs_gib, ROUNDING_GIB))
    overhead, rounding = _overhead(seen, plain, weights, graphs, one_stage=one_stage)
    said: list[str] = []
    if overhead is not None:
        if overhead > 0:
            predicted = plain.activation_peak_gib + plain.non_torch_gib
            found.append((Quantity.OVERHEAD, overhead, predicted, rounding))
        else:
            said.append(f"activations and non-torch memory would be {overhead:.2f} GiB: not possible, not learned")
    evidence = []
    for quantity, measured, predicted, error in found:
        factor = measured / predicted
        if max(factor, 1 / factor) > PLAUSIBLE[quantity]:
            said.append(f"{quantity} is {measured:.2f} GiB, {factor:.2f} times the prediction: not learned")
            continue
        load = Load.of_overhead(predicted) if quantity is Quantity.OVERHEAD else None
        noise = math.hypot(PRIORS[quantity].noise, error / measured)
        evidence.append(Evidence(quantity, math.log(factor), noise, load))
    return evidence, said


def _total(seen: StartUp) -> float | None:
    """Memory of the GPU, stated or from the budget and its share."""
    if seen.gpu_total_gib is not None:
        return seen.gpu_total_gib
    if seen.requested_gib is not None and seen.gpu_memory_utilization:
        return seen.requested_gib / seen.gpu_memory_utilization
    return None


def _graphs(seen: StartUp, plain: MemoryLedger) -> float | None:
    """CUDA graphs as they count: the estimate where it is taken from the KV cache, else what was captured."""
    pair = (seen.cuda_graphs_estimate_gib, seen.cuda_graphs_gib)
    first, second = pair if plain.cuda_graphs_in_budget else reversed(pair)
    value = first if first is not None else second
    return value if value is not None and value > 2 * ROUNDING_GIB else None


def measured_kv_gib(seen: StartUp, plain: MemoryLedger, *, one_stage: bool) -> float | None:
    """The KV cache in GiB per GPU: logged, or from blocks or tokens, which all ranks share."""
    if seen.kv_cache_stated:
        return None
    if seen.kv_cache_gib is not None and one_stage:
        return seen.kv_cache_gib
    if seen.kv_cache_blocks is not None and plain.bytes_per_block:
        return seen.kv_cache_blocks * plain.bytes_per_block / GIB
    if seen.kv_cache_tokens is not None and plain.kv_cache_tokens > 0:
        return plain.kv_cache_gib * seen.kv_cache_tokens / plain.kv_cache_tokens
    return None


def _overhead(
    seen: StartUp, plain: MemoryLedger, weights: float | None, graphs: float | None, *, one_stage: bool
) -> tuple[float | None, float]:
    """(activation peak and non-torch memory in GiB, its error in GiB).

    What is left of the budget beside weights, graphs and the KV cache comes first: it is what the next KV cache will
    lack, whatever it is made of.
    """
    kv = measured_kv_gib(seen, plain, one_stage=one_stage)
    if kv is not None:
        held = weights if weights is not None else plain.weights_gib
        taken = (graphs if graphs is not None else plain.cuda_graphs_gib) if plain.cuda_graphs_in_budget else 0.0
        error = 2 * ROUNDING_GIB
        if weights is None:
            error = math.hypot(error, WEIGHTS_ESTIMATE * held)
        if _total(seen) is None:
            error = math.hypot(error, CATALOGUE_GIB)
        return plain.requested_gib - held - taken - kv, error
    if seen.activation_peak_gib is None:
        return None, 0.0
    if seen.non_torch_gib is not None:
        return seen.activation_peak_gib + seen.non_torch_gib, 2 * ROUNDING_GIB
    if seen.consumed_gib is not None and weights is not None:
        return seen.activation_peak_gib + seen.consumed_gib - weights, 3 * ROUNDING_GIB
    return None, 0.0
