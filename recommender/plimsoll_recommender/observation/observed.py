"""What was observed of one engine."""

from __future__ import annotations

from dataclasses import dataclass

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.observation.quantities import Key, Load, Quantity
from plimsoll_recommender.traffic import Workload


@dataclass(frozen=True)
class StartUp:
    """What an engine says of itself while it starts; None where it does not. GiB per GPU.

    Args:
        model: name or path of the model.
        engine_version: release.
        tensor_parallel_size, pipeline_parallel_size, max_model_len, max_num_seqs, max_num_batched_tokens,
            gpu_memory_utilization, kv_cache_dtype, quantization, enforce_eager: engine settings it states.
        gpu_total_gib: memory of the GPU.
        requested_gib: what gpu_memory_utilization allows.
        weights_gib: weights.
        activation_peak_gib: peak of activations in the profile run.
        non_torch_gib: memory outside torch's allocator.
        consumed_gib: weights and non-torch memory together (how releases from 0.27 state them).
        cuda_graphs_gib: CUDA graphs as captured.
        cuda_graphs_estimate_gib: CUDA graphs as estimated before the KV cache is sized.
        kv_cache_gib: KV cache.
        kv_cache_tokens, kv_cache_blocks, block_size, max_concurrency: its capacity.
        kv_cache_stated: the KV cache was sized by hand, so that nothing follows from it for the rest.
        contradictions: lines that cannot all be true, in words.
    """

    model: str | None = None
    engine_version: str | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str | None = None
    quantization: str | None = None
    enforce_eager: bool | None = None
    gpu_total_gib: float | None = None
    requested_gib: float | None = None
    weights_gib: float | None = None
    activation_peak_gib: float | None = None
    non_torch_gib: float | None = None
    consumed_gib: float | None = None
    cuda_graphs_gib: float | None = None
    cuda_graphs_estimate_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: int | None = None
    kv_cache_blocks: int | None = None
    block_size: int | None = None
    max_concurrency: float | None = None
    kv_cache_stated: bool = False
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """How an engine ran over a period; None where it is not known.

    Args:
        ttft: mean time to first token, seconds.
        tpot: mean time per output token, seconds.
        requests: requests that finished.
        started: requests that got their first token.
        input_tokens, output_tokens: mean lengths of a request.
        running, waiting: mean requests in the batch and in the queue.
        requests_per_second: rate.
        prefix_hit_ratio: share of prompt tokens found in the prefix cache.
        percentile: the percentile that ttft and tpot are at; None for means.
    """

    ttft: float | None = None
    tpot: float | None = None
    requests: float | None = None
    started: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    running: float | None = None
    waiting: float | None = None
    requests_per_second: float | None = None
    prefix_hit_ratio: float | None = None
    percentile: float | None = None


@dataclass(frozen=True)
class Evidence:
    """One quantity as measured and as predicted without corrections.

    Args:
        quantity: which.
        value: ln of the factor that would make the prediction right.
        noise: standard deviation of `value`.
        load: what it was measured at; None where it does not matter.
    """

    quantity: Quantity
    value: float
    noise: float
    load: Load | None = None


@dataclass(frozen=True)
class Observation:
    """One engine observed, held against its prediction.

    Args:
        key: what it teaches about.
        facts: the model.
        gpu: the accelerator.
        config: engine settings, those that it stated itself included.
        start_up: what it said while starting.
        operation: how it ran.
        workload: the traffic under which it ran; None when that is not known.
        evidence: what follows for corrections.
        contradictions: what cannot be true, in words; nothing is learned from it.
    """

    key: Key
    facts: ModelFacts
    gpu: Accelerator
    config: EngineConfig
    start_up: StartUp
    operation: Operation
    workload: Workload | None
    evidence: tuple[Evidence, ...]
    contradictions: tuple[str, ...]
