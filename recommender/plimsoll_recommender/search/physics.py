"""What no replica can exceed: a bound on a place from its GPU's figures and laws that costs microseconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.layers import Split, StateCache, TokenCache
from plimsoll_recommender.facts.model import GIB
from plimsoll_recommender.latency.efficiency import efficiency_of
from plimsoll_recommender.latency.step_time import collectives, under_load
from plimsoll_recommender.memory.ledger import kv_bytes_per_element
from plimsoll_recommender.search.ask import Ask, Form
from plimsoll_recommender.search.candidates import copies_for, floor_cost
from plimsoll_recommender.search.settings import MOST_SEQUENCES, Place
from plimsoll_recommender.search.shapes import Shape

SLACK: Final = 1.05
"""Fitted step times may come out this much better than the datasheet between the points of their curves."""

CORRECTED_SLACK: Final = 2.0
"""The same where observations correct them."""

EVENNESS: Final = 0.8
"""Exponent of the tokens in the share of experts they touch: below every fitted one (0.91 and more)."""

MEAN_BELOW_PERCENTILE: Final = 80.0
"""From this percentile on a log-normal latency of any spread that occurs (sigma to 1.68) is above its mean."""


def floor_with_load(ask: Ask, place: Place) -> float:
    """What a fleet of a place costs at least, were every GPU to reach what its best kernels reach."""
    rate, running = datasheet_bound(ask, place)
    if rate <= 0:
        return floor_cost(ask, place)
    copies = copies_for(ask, rate, running)
    return max(floor_cost(ask, place), copies * place.shape.gpus * ask.price(place.gpu))


def datasheet_bound(ask: Ask, place: Place) -> tuple[float, float]:
    """Bounds of (requests/s, requests in flight) of one replica; (0, 0) when a token alone takes too long.

    A step reads the weights once and every sequence's KV cache: seconds = (W + D K) / bandwidth, for D sequences. Of a
    request's time the KV cache takes O K / bandwidth, its O output tokens; beside it the larger of its share of the
    weights, O / D W / bandwidth, and of its arithmetic; and what its tokens take between the GPUs of a group.
    """
    gpu, shape, workload = place.gpu, place.shape, ask.workload
    context = workload.input_tokens + 0.5 * workload.output_tokens
    cached = _cache_read(place.form, shape.tensor, context) / shape.stages
    slack = SLACK if ask.corrections is None else CORRECTED_SLACK
    reach = _reach(gpu)
    bandwidth = gpu.data_bandwidth * reach.bandwidth * slack
    room = gpu.memory_gib * GIB - _weights_held(place.form, shape) / shape.stages
    decoding = min(float(ask.limits.max_num_seqs or MOST_SEQUENCES), room / cached if cached else math.inf)
    longest = math.inf if ask.objectives.tpot is None else ask.objectives.tpot
    if ask.objectives.percentile >= MEAN_BELOW_PERCENTILE and math.isfinite(longest) and cached:
        decoding = min(decoding, (longest * bandwidth - _weights_read(place.form, shape)) / cached)
    if decoding <= 0:
        return 0.0, 0.0
    generated = max(workload.output_tokens, 1.0)
    tokens = workload.computed_input_tokens + generated
    flops = _best_flops(place.form, reach.gpu) * slack * shape.tensor * shape.stages
    dense, routed = _active(place.form)
    arithmetic = 2 * tokens * (dense / reach.dense + routed / reach.routed) / flops
    reading = generated / decoding * _weights_read(place.form, shape, decoding / shape.stages) / bandwidth
    between = tokens * _between(place) / slack
    rate = shape.ranks / (generated * cached / bandwidth + max(reading, arithmetic) + between)
    # Prompts being computed run as well; they cannot be more than the slots.
    return rate, float(ask.limits.max_num_seqs or MOST_SEQUENCES) * shape.ranks


@dataclass(frozen=True)
class _Reach:
    """What the best kernels of a generation reach.

    Args:
        gpu: with the arithmetic that it sustains.
        bandwidth: largest share of it over all kinds of kernels.
        dense, routed: largest shares of its arithmetic, of dense products and of experts'.
    """

    gpu: Accelerator
    bandwidth: float
    dense: float
    routed: float


@lru_cache(maxsize=256)
def _reach(gpu: Accelerator) -> _Reach:
    efficiency = efficiency_of(gpu.architecture)
    kernels = efficiency.kernels
    products, experts = tuple(kernels.matmul.values()), tuple(kernels.experts.values())
    decoding = (kernels.decode, kernels.decode_fp8, kernels.latent_decode)
    shares = [law.bandwidth for law in products] + [law.bandwidth for law in experts]
    return _Reach(
        under_load(gpu, efficiency),
        max([*shares, *(law.bandwidth for law in decoding)]),
        max(law.compute for law in products),
        max(law.compute for law in experts),
    )


def _between(place: Place) -> float:
    """Seconds per token of the collectives of one stage."""
    shape, facts = place.shape, place.form.facts
    if shape.tensor == 1:
        return 0.0
    config = EngineConfig(tensor_parallel_size=shape.tensor, pipeline_parallel_size=shape.stages)
    efficiency = efficiency_of(place.gpu.architecture)
    return collectives(facts, place.gpu, config, efficiency, len(facts.layers) / shape.stages)[1]


def _best_flops(form: Form, gpu: Accelerator) -> float:
    if form.facts.quantization is None:
        return gpu.flops_16bit
    return max(flops for flops in (gpu.flops_16bit, gpu.flops_fp8, gpu.flops_int8, gpu.flops_fp4) if flops)


@lru_cache(maxsize=64)
def _active(form: Form) -> tuple[float, float]:
    """Parameters of the layers that one token multiplies with: dense ones and experts'; the head is left out."""
    dense = routed = 0.0
    for layer, count in form.facts.layer_counts:
        for weight in layer.weights:
            if weight.linear:
                used = count * weight.elements * weight.active / weight.copies
                dense, routed = (dense, routed + used) if weight.split is Split.EXPERTS else (dense + used, routed)
    return dense, routed


def _weights_read(form: Form, shape: Shape, tokens: float = 1.0) -> float:
    """Bytes of weights that one GPU of every stage reads at least per step with so many tokens."""
    dense, experts = _readable(form, shape)
    touched = sum(size * (1 - math.pow(1 - share, math.pow(max(tokens, 1.0), EVENNESS))) for size, share in experts)
    return dense + touched


@lru_cache(maxsize=1024)
def _readable(form: Form, shape: Shape) -> tuple[float, tuple[tuple[float, float], ...]]:
    """(bytes of dense weights on one GPU of every stage, of experts with the share of them that one token uses)."""
    ranks = shape.ranks if shape.expert_parallel else 1
    dense = 0.0
    experts: dict[float, float] = {}
    for layer, count in form.facts.layer_counts:
        for weight in layer.weights:
            if not weight.linear:
                continue
            held = count * weight.elements * weight.bits / 8 / shape.tensor
            if weight.split is Split.EXPERTS:
                share = weight.active / weight.copies
                experts[share] = experts.get(share, 0.0) + held / ranks
            elif weight.split is Split.REPLICATED:
                dense += held * shape.tensor
            else:
                dense += held
    return dense, tuple((size, share) for share, size in experts.items())


@lru_cache(maxsize=1024)
def _weights_held(form: Form, shape: Shape) -> float:
    """Bytes of layers' weights that one GPU of every stage holds at least."""
    experts = shape.tensor * shape.ranks if shape.expert_parallel else 1
    return sum(
        count * weight.elements * weight.bits / 8 / (experts if weight.split is Split.EXPERTS else 1) / shape.tensor
        for layer, count in form.facts.layer_counts
        for weight in layer.weights
    )


@lru_cache(maxsize=1024)
def _cache_read(form: Form, tensor: int, context: float) -> float:
    """Bytes of KV cache and states of one sequence that one GPU of every stage reads per step."""
    element = kv_bytes_per_element(form.facts, form.kv_cache_dtype)
    total = 0.0
    for layer, count in form.facts.layer_counts:
        cache = layer.cache
        if isinstance(cache, TokenCache):
            seen = min(context, cache.window or context, layer.attention_limit or context)
            total += count * seen * cache.elements_per_token(tensor) * element
        elif isinstance(cache, StateCache):
            total += count * cache.bytes_per_sequence(tensor, form.facts.dtype_bytes)
    return total


def idle_e2e(ask: Ask, place: Place) -> float:
    """Seconds that a mean response takes at least on an idle replica: the weights are read once per output token."""
    slack = SLACK if ask.corrections is None else CORRECTED_SLACK
    reached = place.gpu.data_bandwidth * _reach(place.gpu).bandwidth * slack
    per_token = _weights_read(place.form, place.shape) / reached
    return max(ask.workload.output_tokens - 1.0, 0.0) * per_token
