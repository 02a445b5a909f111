"""The time of one engine step: bytes and FLOPs over what the GPU reaches of its bandwidth and arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.layers import Split, StateCache, TokenCache
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.efficiency import Efficiency, efficiency_of
from plimsoll_recommender.memory.ledger import check_division, kv_bytes_per_element
from plimsoll_recommender.step_load import StepLoad

ROOFLINE_SHARPNESS: Final[float] = 3.0
"""Exponent p of (compute^p + memory^p)^(1/p): kernels overlap both, though not wholly near the corner."""

EXPERT_MATMUL_16BIT: Final = 0.35
"""Share of 16-bit FLOP/s that unquantised experts reach.

Between the median (0.2) and p90 (0.43) of 4096 and more tokens in the fused-experts tables of vLLM 0.19 and 0.24 on
H100 and H200 (ai-dynamo/aiconfigurator, Apache-2.0); their small shards are bound by memory.
"""

STAGE_HANDOVER: Final = 60e-6
"""Seconds to hand activations from one pipeline stage to the next on one node."""

EAGER_LAYER_PENALTY: Final = 4.0
"""Without CUDA graphs each kernel is launched from the host: a layer's fixed time grows by about this factor."""


@dataclass(frozen=True)
class StepTimeModel:
    """Seconds of one step of a replica as a function of its load. Coefficients are for one GPU of one pipeline stage.

    Build it with `for_engine`; a call of `seconds` takes about 2 microseconds.
    """

    stages: int
    fixed: float
    per_sequence: float
    per_token: float
    dense_memory: float
    dense_compute: float
    expert_memory: float
    expert_compute: float
    experts: float
    active: float
    routing: float
    head_memory: float
    head_compute: float
    state_per_sequence: float
    readers: tuple[tuple[float, float, float], ...]

    @classmethod
    def for_engine(
        cls, facts: ModelFacts, gpu: Accelerator, config: EngineConfig, efficiency: Efficiency | None = None
    ) -> StepTimeModel:
        """The model of a replica.

        Args:
            facts: the model.
            gpu: the accelerator.
            config: engine settings (parallelism, types, CUDA graphs).
            efficiency: shares to use instead of the GPU generation's (calibration).

        Raises:
            RecommenderError: parallelism that the model cannot be divided by.
        """
        check_division(facts, config)
        loaded = facts.as_loaded(config.dtype, config.quantization)
        share = efficiency or efficiency_of(gpu.architecture)
        return _assembled(loaded, gpu, config, share)

    def seconds(self, load: StepLoad) -> float:
        """Seconds of one step with this load."""
        prefill, decode = load.prefill_tokens, load.decode_sequences
        context = load.kv_tokens / decode if decode else 0.0
        reach = load.prefill_context / prefill if prefill else 0.0
        return self.mixed_seconds(prefill, reach, decode, context, load.sampled_sequences)

    def mixed_seconds(
        self, prefill: float, reach: float, decode: float, context: float, sampled: float | None = None
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
        time = self.fixed + (self.per_sequence + self.state_per_sequence) * decode + self.per_token * tokens
        if tokens <= 0:
            return time * stages
        compute = self.dense_compute * tokens
        time += _roofline(compute, self.dense_memory)
        if self.experts:
            # Experts that at least one of the tokens is routed to.
            memory = self.expert_memory * (1.0 - math.pow(1.0 - self.active / self.experts, tokens**self.routing))
            compute = self.expert_compute * tokens
            time += _roofline(compute, memory)
        rows = decode if sampled is None else sampled / stages
        if rows:
            time += max(self.head_memory, self.head_compute * rows)
        for memory, pair, limit in self.readers:
            time += decode * memory * (context if context < limit else limit)
            time += prefill * pair * (reach if reach < limit else limit)
        return time * stages


def _roofline(compute: float, memory: float) -> float:
    """Seconds of work that needs both arithmetic and memory."""
    return math.pow(compute**ROOFLINE_SHARPNESS + memory**ROOFLINE_SHARPNESS, 1 / ROOFLINE_SHARPNESS)


def _assembled(facts: ModelFacts, gpu: Accelerator, config: EngineConfig, share: Efficiency) -> StepTimeModel:
    tensor, stages = config.tensor_parallel_size, config.pipeline_parallel_size
    expert_ranks = tensor * config.data_parallel_size if config.expert_parallel else 1
    bandwidth = gpu.memory_bandwidth * share.weight_bandwidth
    flops16 = gpu.flops_16bit * share.matmul
    compute_type = facts.quantization.compute if facts.quantization else "16bit"
    quantized = gpu.flops(compute_type)
    dense_bytes = dense_time = expert_bytes = expert_time = 0.0
    experts = active = 0.0
    for layer, count in facts.layer_counts:
        for weight in layer.weights:
            held = weight.elements * weight.share(tensor, expert_ranks) * count / stages
            if weight.split is Split.EXPERTS:
                experts, active = float(weight.copies), weight.active
                rate = quantized * share.expert_matmul if weight.bits < 16 else gpu.flops_16bit * EXPERT_MATMUL_16BIT
                expert_bytes += held * weight.bits / 8
                expert_time += 2 * held * weight.active / weight.copies / rate
            elif weight.linear:
                dense_bytes += held * weight.bits / 8
                dense_time += 2 * held / (quantized * share.matmul_quantized if weight.bits < 16 else flops16)
    head = facts.head or facts.embedding
    head_elements = head.elements * head.share(tensor) / stages
    layers = len(facts.layers) / stages
    expert_layers = sum(count for layer, count in facts.layer_counts if layer.top_k) / stages
    moved = share.token_traffic * facts.hidden_size * facts.dtype_bytes * layers / bandwidth
    collective, per_token_collective = _collective(facts, gpu, config, share, layers)
    return StepTimeModel(
        stages=stages,
        fixed=share.step_latency / stages
        + (layers * share.layer_latency + expert_layers * share.expert_latency)
        * (EAGER_LAYER_PENALTY if config.enforce_eager else 1.0)
        + collective
        + (STAGE_HANDOVER if stages > 1 else 0.0),
        per_sequence=share.sequence_latency,
        per_token=moved + per_token_collective,
        dense_memory=dense_bytes / bandwidth,
        dense_compute=dense_time,
        expert_memory=expert_bytes / (gpu.memory_bandwidth * share.expert_bandwidth),
        expert_compute=expert_time,
        experts=experts,
        active=active,
        routing=share.routing,
        head_memory=head_elements * head.bits / 8 / bandwidth,
        head_compute=2 * head_elements / flops16,
        state_per_sequence=_state_bytes(facts, tensor) / stages / bandwidth,
        readers=_readers(facts, gpu, config, share),
    )


def _collective(
    facts: ModelFacts, gpu: Accelerator, config: EngineConfig, share: Efficiency, layers: float
) -> tuple[float, float]:
    """(seconds per step, seconds per token) of two all-reduces per layer.

    A ring moves 2 (n - 1) / n of the message over each GPU's link; beyond the link domain it goes over PCIe.
    """
    tensor = config.tensor_parallel_size
    if tensor == 1:
        return 0.0, 0.0
    inside = tensor <= max(gpu.link_domain, 1) and gpu.link_domain > 1
    link = (gpu.link_bandwidth if inside else min(gpu.link_bandwidth, gpu.pcie_bandwidth)) * share.link
    message = facts.hidden_size * facts.dtype_bytes
    return 2 * layers * share.collective_latency, 2 * layers * message * 2 * (tensor - 1) / tensor / link


def _readers(
    facts: ModelFacts, gpu: Accelerator, config: EngineConfig, share: Efficiency
) -> tuple[tuple[float, float, float], ...]:
    """(seconds per cached token read, seconds per attention pair, window) by window length."""
    tensor, stages = config.tensor_parallel_size, config.pipeline_parallel_size
    element = kv_bytes_per_element(facts, config.kv_cache_dtype)
    found: dict[float, list[float]] = {}
    for layer, count in facts.layer_counts:
        if not layer.query_heads:
            continue
        limit = float(layer.attention_limit) if layer.attention_limit else float("inf")
        entry = found.setdefault(limit, [0.0, 0.0])
        cache = layer.cache
        if isinstance(cache, TokenCache):
            stored = cache.elements_per_token(tensor) * element + cache.extra_bytes
            entry[0] += stored * count / stages / (gpu.memory_bandwidth * share.kv_bandwidth)
        pairs = 2 * layer.query_heads / tensor * (layer.query_dim + layer.output_dim)
        entry[1] += pairs * count / stages / (gpu.flops_16bit * share.attention)
    return tuple((memory, pair, limit) for limit, (memory, pair) in found.items())


def _state_bytes(facts: ModelFacts, tensor: int) -> float:
    """Bytes that one decode step of one sequence reads and writes in recurrent states."""
    return sum(
        2 * count * layer.cache.bytes_per_sequence(tensor, facts.dtype_bytes)
        for layer, count in facts.layer_counts
        if isinstance(layer.cache, StateCache)
    )
