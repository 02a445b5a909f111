"""The time of one engine step: the laws of its kernels summed over the model, and what serving adds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.layers import Layer, StateCache, TokenCache
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.efficiency import Efficiency, efficiency_of
from plimsoll_recommender.latency.kernels import CHAIN_TOKENS
from plimsoll_recommender.latency.products import (
    experts_seconds,
    law_of,
    mixtures_of,
    products_of,
    products_seconds,
)
from plimsoll_recommender.memory.budget import FUSED_ALL_REDUCE_ARCHITECTURES
from plimsoll_recommender.memory.ledger import check_division, kv_bytes_per_element
from plimsoll_recommender.step_load import StepLoad

GRID_POINTS: Final = 33
"""Numbers of tokens at which products are evaluated: 2^(i/2) from 1 to 65536, straight lines between them."""

_HALF_OCTAVE: Final = math.sqrt(0.5)

ASYNCHRONOUS: Final = (0, 14, 0)
"""From this release vLLM schedules asynchronously by default (its release notes)."""

FUSED_ALL_REDUCE: Final = (0, 16, 0)
"""From this release vLLM fuses all-reduces with the addition and the norm after them by default on data centre GPUs
since Hopper."""

MORE_COLLECTIVES: Final = {
    "MiniMaxM2ForCausalLM": 2,
    "Olmo2ForCausalLM": 2,
    "Olmo3ForCausalLM": 2,
}
"""Further collectives per layer of architectures that normalise queries and keys across all heads."""

HALF_RATE: Final = "GeForce"
HALF_RATE_REACHED: Final = 0.95
"""Share of their arithmetic that products reach on cards that accumulate at half rate: power does not limit those, and
they run above the clock of their datasheet (a log of Llama-3.1-8B on an RTX 4090 shows 0.95 while it prefills; RTX PRO
6000's kernels, which power does limit, reach 0.87)."""

STAGE_HANDOVER: Final = 60e-6
"""Seconds to hand activations from one pipeline stage to the next on one node."""

EAGER_LAYER_PENALTY: Final = 4.0
"""Without CUDA graphs each kernel is launched from the host: a layer's fixed time grows by about this factor."""


@dataclass(frozen=True)
class Reader:
    """Attention layers that see the same window, on one GPU of one stage.

    Args:
        limit: most tokens that a query attends to.
        memory: seconds per cached token read by a decoding sequence.
        unit: seconds per decoding sequence.
        chain: seconds per doubling of the decode context.
        pair: seconds per attention pair of the prefill.
        length: seconds per token of the prompt's length.
    """

    limit: float
    memory: float
    unit: float
    chain: float
    pair: float
    length: float


@dataclass(frozen=True)
class StepTimeModel:
    """Seconds of one step of a replica as a function of its load. Coefficients are for one GPU of one pipeline stage.

    Build it with `for_engine`; a call of `seconds` takes about 2 microseconds.

    Args:
        stages: pipeline stages.
        fixed: seconds of a step whatever its load.
        per_sequence: seconds per decoding sequence, recurrent states included.
        per_token: seconds per token: element-wise kernels and collectives.
        weights: seconds to read all weights that a step of one token touches.
        curve: (seconds, more seconds per token) of the products at each number of tokens of the grid.
        decode_launch, prefill_launch: seconds of attention kernels that do next to nothing.
        prefill_token: seconds per prompt token: queries and outputs of attention.
        head_memory, head_compute: seconds to read the LM head, and per sampled sequence to multiply with it.
        head_gather: seconds per sampled sequence to gather the vocabulary's logits from all GPUs.
        readers: attention.
    """

    stages: int
    fixed: float
    per_sequence: float
    per_token: float
    weights: float
    curve: tuple[tuple[float, float, float], ...]
    decode_launch: float
    prefill_launch: float
    prefill_token: float
    head_memory: float
    head_compute: float
    head_gather: float
    readers: tuple[Reader, ...]

    @classmethod
    def for_engine(
        cls,
        facts: ModelFacts,
        gpu: Accelerator,
        config: EngineConfig,
        efficiency: Efficiency | None = None,
    ) -> StepTimeModel:
        """The model of a replica.

        Args:
            facts: the model.
            gpu: the accelerator.
            config: engine settings (parallelism, types, CUDA graphs).
            efficiency: laws to use instead of the GPU generation's (calibration).

        Raises:
            RecommenderError: parallelism that the model cannot be divided by.
        """
        check_division(facts, config)
        loaded = facts.as_loaded(config.dtype, config.quantization)
        return _assembled(loaded, gpu, config, efficiency or efficiency_of(gpu.architecture))

    def seconds(self, load: StepLoad) -> float:
        """Seconds of one step with this load."""
        prefill, decode = load.prefill_tokens, load.decode_sequences
        context = load.kv_tokens / decode if decode else 0.0
        reach = load.prefill_context / prefill if prefill else 0.0
        return self.mixed_seconds(prefill, reach, decode, context, load.sampled_sequences)

    def mixed_seconds(
        self,
        prefill: float,
        reach: float,
        decode: float,
        context: float,
        sampled: float | None = None,
    ) -> float:
        """Seconds of a step in real-valued terms.

        Args:
            prefill: prompt tokens.
            reach: mean tokens that each of them attends to.
            decode: sequences that generate a token.
            context: mean tokens that each of them attends to.
            sampled: sequences that sample; those that decode when None.
        """
        stages = self.stages
        prefill, decode = prefill / stages, decode / stages
        tokens = prefill + decode
        if tokens <= 0:
            return self.fixed * stages
        time = self.fixed + self.per_sequence * decode + self.per_token * tokens + self.products_seconds(tokens)
        rows = decode if sampled is None else sampled / stages
        if rows:
            compute = self.head_compute * rows
            time += self.head_gather * rows + (compute if compute > self.head_memory else self.head_memory)
        if decode:
            time += self.decode_launch
        if prefill:
            time += self.prefill_launch + self.prefill_token * prefill
        for reader in self.readers:
            limit = reader.limit
            if decode:
                seen = context if context < limit else limit
                time += decode * (reader.memory * seen + reader.unit) + reader.chain * math.log2(
                    1.0 + seen / CHAIN_TOKENS
                )
            if prefill:
                seen = reach if reach < limit else limit
                time += (prefill * reader.pair + reader.length) * seen
        return time * stages

    def products_seconds(self, tokens: float) -> float:
        """Seconds of the layers' products, dense and experts', with this many tokens on one stage."""
        if tokens <= 1.0:
            return self.curve[0][1]
        # 2^(i/2) <= tokens: frexp gives tokens = mantissa 2^exponent with the mantissa from a half to one.
        mantissa, exponent = math.frexp(tokens)
        index = 2 * exponent - (2 if mantissa < _HALF_OCTAVE else 1)
        if index >= len(self.curve):
            index = len(self.curve) - 1
        start, seconds, slope = self.curve[index]
        return seconds + slope * (tokens - start)


def _assembled(facts: ModelFacts, gpu: Accelerator, config: EngineConfig, efficiency: Efficiency) -> StepTimeModel:
    stages = config.pipeline_parallel_size
    kernels, serving = efficiency.kernels, efficiency.serving
    gpu = under_load(gpu, efficiency)
    bandwidth = gpu.data_bandwidth
    layers = len(facts.layers) / stages
    collective, per_token_collective = collectives(facts, gpu, config, efficiency, layers)
    curve = _curve(facts, gpu, config, efficiency)
    fp8 = kv_bytes_per_element(facts, config.kv_cache_dtype) < 2
    decode, prefill = (kernels.decode_fp8, kernels.prefill_fp8) if fp8 else (kernels.decode, kernels.prefill)
    attending = [(layer, count) for layer, count in facts.layer_counts if layer.query_heads]
    attention = sum(count for _, count in attending) / stages
    latent = sum(count for layer, count in attending if _is_latent(layer)) / stages
    outputs = sum(layer.query_heads * layer.output_dim * count for layer, count in attending) / stages
    tensor = config.tensor_parallel_size
    head_memory, head_compute = _head(facts, gpu, config, efficiency)
    eager = EAGER_LAYER_PENALTY if config.enforce_eager else 1.0
    host = serving.exposed if config.version >= ASYNCHRONOUS else 1.0
    return StepTimeModel(
        stages=stages,
        fixed=host * serving.step / stages
        + layers * serving.layer * eager
        + collective
        + (STAGE_HANDOVER if stages > 1 else 0.0),
        per_sequence=host * serving.sequence + _state_bytes(facts, tensor) / stages / (bandwidth * decode.bandwidth),
        per_token=serving.traffic * facts.hidden_size * facts.dtype_bytes * layers / bandwidth + per_token_collective,
        weights=curve[0][1],
        curve=curve,
        decode_launch=(attention - latent) * decode.launch + latent * kernels.latent_decode.launch,
        prefill_launch=attention * prefill.launch,
        prefill_token=prefill.traffic * 2 * 2 * outputs / tensor / bandwidth,
        head_memory=head_memory,
        head_compute=head_compute,
        head_gather=_gather(facts, gpu, config, efficiency),
        readers=_readers(facts, gpu, config, efficiency),
    )


def under_load(gpu: Accelerator, efficiency: Efficiency) -> Accelerator:
    """The GPU with the arithmetic that it sustains."""
    share = efficiency.serving.arithmetic
    if HALF_RATE in gpu.product:
        share = HALF_RATE_REACHED / law_of(efficiency.kernels.matmul, "16bit").compute
    types = ("flops_16bit", "flops_fp8", "flops_int8", "flops_fp4")
    return replace(gpu, **{name: rate * share for name in types if (rate := getattr(gpu, name)) is not None})


def _curve(
    facts: ModelFacts, gpu: Accelerator, config: EngineConfig, efficiency: Efficiency
) -> tuple[tuple[float, float, float], ...]:
    """(tokens, seconds of the products, more seconds per token) at every point of the grid."""
    products, mixtures = (
        products_of(facts, gpu, config),
        mixtures_of(facts, gpu, config),
    )
    tokens = [2 ** (point / 2) for point in range(GRID_POINTS)]
    seconds = [
        products_seconds(rows, products, gpu, efficiency.kernels.matmul)
        + (experts_seconds(rows, mixtures, gpu, efficiency) if mixtures else 0.0)
        for rows in tokens
    ]
    slopes = [
        (after - before) / (more - rows)
        for rows, more, before, after in zip(tokens, tokens[1:], seconds, seconds[1:], strict=False)
    ]
    return tuple(zip(tokens, seconds, [*slopes, slopes[-1]], strict=True))


def _head(facts: ModelFacts, gpu: Accelerator, config: EngineConfig, efficiency: Efficiency) -> tuple[float, float]:
    """(seconds to read the LM head, seconds per sampled sequence to multiply with it); 16-bit, on the last stage."""
    law = law_of(efficiency.kernels.matmul, "16bit")
    head = facts.head or facts.embedding
    elements = head.elements * head.share(config.tensor_parallel_size) / config.pipeline_parallel_size
    return (
        elements * head.bits / 8 / (gpu.data_bandwidth * law.bandwidth) + law.launch,
        2 * elements / (gpu.flops_16bit * law.compute),
    )


def collectives(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    efficiency: Efficiency,
    layers: float,
) -> tuple[float, float]:
    """(seconds per step, seconds per token) of collectives; beyond the link domain they go over PCIe.

    Tensor parallelism does two all-reduces per layer. Data-parallel ranks that share experts gather all their tokens
    before the experts and scatter the sums after them, which together move as much as an all-reduce of all tokens.
    """
    tensor, ranks = config.tensor_parallel_size, config.data_parallel_size
    law, serving = efficiency.kernels.collective, efficiency.serving
    message = facts.hidden_size * facts.dtype_bytes
    fixed = per_token = 0.0
    if tensor > 1:
        fuses = config.version >= FUSED_ALL_REDUCE and gpu.architecture in FUSED_ALL_REDUCE_ARCHITECTURES
        fused = serving.fused if fuses else 1.0
        more = MORE_COLLECTIVES.get(facts.architecture, 0)
        fixed += (2 * fused + more) * layers * law.fixed(tensor)
        per_token += 2 * layers * message * law.per_byte(_link(gpu, tensor))
    if config.expert_parallel and ranks > 1:
        mixed = sum(count for layer, count in facts.layer_counts if layer.top_k) / config.pipeline_parallel_size
        fixed += 2 * mixed * law.fixed(ranks)
        per_token += mixed * message * ranks * law.per_byte(_link(gpu, ranks * tensor))
    return fixed, serving.collective * per_token


def _gather(facts: ModelFacts, gpu: Accelerator, config: EngineConfig, efficiency: Efficiency) -> float:
    """Seconds per sampled sequence to gather its logits, of which tensor parallelism leaves each GPU a part.

    vLLM gathers them in the model's type before it samples. A gather moves half of what an all-reduce of the same size
    moves.
    """
    tensor = config.tensor_parallel_size
    if tensor == 1:
        return 0.0
    per_byte = efficiency.serving.collective * efficiency.kernels.collective.per_byte(_link(gpu, tensor))
    return 0.5 * facts.vocab_size * facts.dtype_bytes * per_byte / config.pipeline_parallel_size


def _link(gpu: Accelerator, ranks: int) -> float:
    """Bytes/s between GPUs of a group of this many."""
    inside = ranks <= gpu.link_domain and gpu.link_domain > 1
    return gpu.link_bandwidth if inside else min(gpu.link_bandwidth, gpu.pcie_bandwidth)


def _is_latent(layer: Layer) -> bool:
    return isinstance(layer.cache, TokenCache) and layer.cache.kind == "mla"


def _readers(facts: ModelFacts, gpu: Accelerator, config: EngineConfig, efficiency: Efficiency) -> tuple[Reader, ...]:
    """Attention by window length."""
    tensor, stages = config.tensor_parallel_size, config.pipeline_parallel_size
    kernels = efficiency.kernels
    element = kv_bytes_per_element(facts, config.kv_cache_dtype)
    prefill = kernels.prefill_fp8 if element < 2 else kernels.prefill
    found: dict[float, list[float]] = {}
    for layer, count in facts.layer_counts:
        if not layer.query_heads:
            continue
        limit = float(layer.attention_limit) if layer.attention_limit else float("inf")
        entry = found.setdefault(limit, [0.0] * 5)
        decode = kernels.decode_fp8 if element < 2 else kernels.decode
        if _is_latent(layer):
            decode = kernels.latent_decode
        share = count / stages
        cache = layer.cache
        if isinstance(cache, TokenCache):
            stored = cache.elements_per_token(tensor) * element + cache.extra_bytes
            memory = stored / (gpu.data_bandwidth * decode.bandwidth)
            heads = 1 if _is_latent(layer) else max(1, cache.kv_heads // tensor)
            entry[1] += share * decode.unit * heads
            if _is_latent(layer):
                # Absorbed attention multiplies every head with the latent: key and value products.
                pairs = 2 * layer.query_heads / tensor * 2 * cache.key_dim
                memory = max(memory, pairs / (gpu.flops_16bit * decode.compute))
            entry[0] += share * memory
        entry[2] += share * decode.chain
        pairs = 2 * layer.query_heads / tensor * (layer.query_dim + layer.output_dim)
        entry[3] += share * pairs / (gpu.flops_16bit * prefill.compute)
        # A prompt's mean reach is half its length.
        entry[4] += share * prefill.length * 2
    return tuple(Reader(limit, *values) for limit, values in found.items())


def _state_bytes(facts: ModelFacts, tensor: int) -> float:
    """Bytes that one decode step of one sequence reads and writes in recurrent states."""
    return sum(
        2 * count * layer.cache.bytes_per_sequence(tensor, facts.dtype_bytes)
        for layer, count in facts.layer_counts
        if isinstance(layer.cache, StateCache)
    )
