"""The memory ledger: where every GiB of one GPU goes, and whether the engine starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.fields import positive
from plimsoll_recommender.facts.model import GIB, ModelFacts
from plimsoll_recommender.memory import budget
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.kv_format import kv_bytes_per_element, kv_format
from plimsoll_recommender.memory.kv_layout import KvLayout, KvRules, kv_layout
from plimsoll_recommender.memory.weights import (
    adapter_bytes,
    built_in_draft,
    draft_bytes,
    stage_layers,
    stage_range,
    stage_weight_bytes,
)

__all__ = [
    "CONCURRENT_BATCHES",
    "MemoryLedger",
    "check_division",
    "kv_bytes_per_element",
    "layout_of",
    "longest_context",
    "memory_ledger",
]

TOKENS_BY_CONCURRENCY: Final = (0, 21, 0)
"""From this release the engine logs `GPU KV cache size` as max_concurrency x max_model_len."""

CONCURRENT_BATCHES: Final = 2
"""Batches in flight with asynchronous scheduling, counted for sliding windows since `TOKENS_BY_CONCURRENCY`.

With pipeline stages there is one more than stages (`max_concurrent_batches` of model runner V2)."""

STATES_CACHED: Final = (0, 28, 0)
"""From this release prefixes of recurrent models are cached by default, in `align` mode (vLLM pull request 50991)."""

NULL_BLOCK_RESERVED: Final = (0, 26, 0)
"""From this release the check of max_model_len leaves out the block that the pool never lends (pull request 47272)."""


@dataclass(frozen=True)
class MemoryLedger:
    """Where the memory of the GPU that limits a replica goes. GiB per GPU.

    Args:
        gpu_total_gib: total that the driver reports.
        requested_gib: what gpu_memory_utilization allows the engine.
        weights_gib: weights, adapters and drafts.
        activation_peak_gib: peak of activations in the engine's profile run.
        non_torch_gib: memory outside torch's allocator.
        cuda_graphs_gib: captured CUDA graphs.
        cuda_graphs_in_budget: whether this release takes them from the KV cache.
        context_gib: used before the engine measures; must fit in what utilization leaves.
        kv_cache_gib: KV cache.
        kv_cache_low_gib, kv_cache_high_gib: its 90 % interval.
        kv_cache_blocks: blocks of the pool.
        kv_cache_tokens: tokens as the engine's log states them.
        block_size: tokens of a block.
        bytes_per_block: bytes of a block over the layers that share it.
        max_concurrency: sequences of max_model_len that fit at once.
        fits: whether the engine starts with these settings.
        reason: why not, with numbers and the fix; what limits, when it fits.
        stage: pipeline stage that limits.
        lookahead_tokens: tokens of the KV cache that drafts of a full batch may hold at once.
    """

    gpu_total_gib: float
    requested_gib: float
    weights_gib: float
    activation_peak_gib: float
    non_torch_gib: float
    cuda_graphs_gib: float
    cuda_graphs_in_budget: bool
    context_gib: float
    kv_cache_gib: float
    kv_cache_low_gib: float
    kv_cache_high_gib: float
    kv_cache_blocks: int
    kv_cache_tokens: int
    block_size: int
    bytes_per_block: int
    max_concurrency: float
    fits: bool
    reason: str
    stage: int = 0
    lookahead_tokens: int = 0

    @property
    def unused_gib(self) -> float:
        """What is neither budgeted nor used: left for other processes and fragmentation."""
        graphs = 0.0 if self.cuda_graphs_in_budget else self.cuda_graphs_gib
        return self.gpu_total_gib - self.requested_gib - self.context_gib - graphs


def memory_ledger(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig | None = None,
    *,
    weights_gib: float | None = None,
    gpu_total_gib: float | None = None,
    draft: ModelFacts | None = None,
    coefficients: budget.Coefficients = budget.CALIBRATED,
) -> MemoryLedger:
    """The ledger of the GPU that limits a replica.

    Args:
        facts: the model.
        gpu: the accelerator.
        config: engine settings; what is None is what the engine would choose.
        weights_gib: measured weights per GPU (the engine logs them), instead of the estimate.
        gpu_total_gib: total that the driver reports, instead of the catalogue's.
        draft: the drafter of speculative decoding, when it is a model of its own.
        coefficients: what activations, workspaces and graphs are estimated with, when not the calibrated ones.

    Raises:
        RecommenderError: tensor or pipeline parallelism that the model cannot be divided by.
    """
    settings = resolve(config or EngineConfig(), facts, gpu)
    check_division(facts, settings)
    check_context(facts, settings)
    loaded = facts.as_loaded(settings.dtype, settings.quantization)
    total = gpu_total_gib if gpu_total_gib is not None else gpu.memory_gib
    for name, value in (("gpu_total_gib", total), ("weights_gib", weights_gib)):
        if value is not None:
            positive(value, name, 0.0)
    # Every rank keeps as many blocks as the poorest one.
    stages = range(settings.pipeline_parallel_size)
    ledgers = [_stage_ledger(loaded, gpu, settings, stage, total, weights_gib, draft, coefficients) for stage in stages]
    return min(ledgers, key=lambda ledger: (ledger.fits, ledger.kv_cache_blocks, ledger.kv_cache_gib))


def check_division(facts: ModelFacts, config: EngineConfig) -> None:
    """Raise RecommenderError when tensor or pipeline parallelism cannot divide the model."""
    tensor, pipeline = config.tensor_parallel_size, config.pipeline_parallel_size
    if facts.num_attention_heads % tensor:
        possible = [size for size in range(1, 65) if facts.num_attention_heads % size == 0]
        raise RecommenderError(
            f"tensor_parallel_size {tensor} does not divide the {facts.num_attention_heads} attention heads of "
            f"{facts.name}: use one of {', '.join(map(str, possible[:10]))}"
        )
    if pipeline > len(facts.layers):
        raise RecommenderError(
            f"pipeline_parallel_size {pipeline} is more than the {len(facts.layers)} layers of {facts.name}: lower it"
        )


def check_context(facts: ModelFacts, config: ResolvedConfig) -> None:
    """Raise RecommenderError for a max_model_len beyond the model's, which vLLM refuses before it measures anything."""
    if config.max_model_len > facts.max_position_embeddings:
        raise RecommenderError(
            f"max_model_len {config.max_model_len:,} is more than the {facts.max_position_embeddings:,} positions of "
            f"{facts.name}: use at most that, or a config.json whose rope_scaling reaches further"
        )


def layout_of(facts: ModelFacts, config: ResolvedConfig, stage: int = 0, draft: ModelFacts | None = None) -> KvLayout:
    """The KV layout of one pipeline stage; a drafter's layers are on the last."""
    drafting = draft.layers if draft is not None else built_in_draft(facts, config)
    here = stage_range(facts, config.pipeline_parallel_size, stage)
    if drafting and stage == config.pipeline_parallel_size - 1:
        here = range(here.start, here.stop + len(drafting))
    rules = KvRules(
        config.tensor_parallel_size,
        kv_format(facts, config.kv_cache_dtype),
        facts.dtype_bytes,
        config.block_size,
        config.num_speculative_tokens,
        cached_states=config.enable_prefix_caching and config.version >= STATES_CACHED,
    )
    return kv_layout((*facts.layers, *drafting), rules, here)


def _stage_ledger(
    facts: ModelFacts,
    gpu: Accelerator,
    config: ResolvedConfig,
    stage: int,
    total: float,
    weights_gib: float | None,
    draft: ModelFacts | None,
    coefficients: budget.Coefficients,
) -> MemoryLedger:
    layers = stage_layers(facts, config.pipeline_parallel_size, stage)
    weights = weights_gib
    if weights is None:
        last = stage == config.pipeline_parallel_size - 1
        added = adapter_bytes(facts, config, layers, ends=int(stage == 0) + int(last and facts.head is not None))
        added += draft_bytes(facts, config, draft) if last else 0.0
        weights = (stage_weight_bytes(facts, config, stage) + added) / GIB
    activation = budget.activation_peak(facts, layers, config, stage == config.pipeline_parallel_size - 1, coefficients)
    outside = budget.non_torch(gpu, config, coefficients)
    graphs = budget.cuda_graphs(layers, config, gpu, coefficients)
    in_budget = config.version >= budget.GRAPHS_BUDGETED
    requested = total * config.gpu_memory_utilization
    fixed = requested - weights - (graphs.value if in_budget else 0.0)
    available = fixed - activation.value - outside.value
    layout = layout_of(facts, config, stage, draft)
    blocks = max(0, int(available * GIB // layout.bytes_per_block)) if layout.bytes_per_block else 0
    concurrency, tokens = _capacity(layout, config, blocks)
    context = budget.CONTEXT_GIB + (budget.COLLECTIVE_CONTEXT_GIB if config.tensor_parallel_size > 1 else 0.0)
    more = graphs.high - graphs.value if in_budget else 0.0
    less = graphs.value - graphs.low if in_budget else 0.0
    ledger = MemoryLedger(
        gpu_total_gib=total,
        requested_gib=requested,
        weights_gib=weights,
        activation_peak_gib=activation.value,
        non_torch_gib=outside.value,
        cuda_graphs_gib=graphs.value,
        cuda_graphs_in_budget=in_budget,
        context_gib=context,
        kv_cache_gib=max(0.0, available),
        kv_cache_low_gib=max(0.0, fixed - activation.high - outside.high - more),
        kv_cache_high_gib=max(0.0, fixed - activation.low - outside.low + less),
        kv_cache_blocks=blocks,
        kv_cache_tokens=tokens,
        block_size=layout.smallest_block,
        bytes_per_block=layout.bytes_per_block,
        max_concurrency=concurrency,
        fits=False,
        reason="",
        stage=stage,
        lookahead_tokens=config.max_num_seqs * config.num_speculative_tokens,
    )
    return _judged(ledger, facts, gpu, config, layout, available)


def _capacity(layout: KvLayout, config: ResolvedConfig, blocks: int) -> tuple[float, int]:
    """(sequences of max_model_len at once, tokens as the log states them) of a number of blocks."""
    if not layout.groups:
        return math.inf, 0
    needed = layout.blocks_per_sequence(config.max_model_len, in_flight_tokens(config))
    concurrency = blocks / needed
    if config.version >= TOKENS_BY_CONCURRENCY:
        return concurrency, int(concurrency * config.max_model_len)
    return concurrency, blocks // layout.group_count * layout.smallest_block


def in_flight_tokens(config: ResolvedConfig) -> int:
    """Most tokens scheduled before older ones are freed, which windows and chunks are sized for."""
    stages = config.pipeline_parallel_size
    batches = max(CONCURRENT_BATCHES, stages + 1) if config.version >= TOKENS_BY_CONCURRENCY else 1
    return batches * config.max_num_batched_tokens


def usable_blocks(config: ResolvedConfig, blocks: int) -> int:
    """Blocks that the check of max_model_len counts on."""
    return max(0, blocks - 1) if config.version >= NULL_BLOCK_RESERVED else blocks


def longest_context(layout: KvLayout, config: ResolvedConfig, blocks: int) -> int:
    """The largest max_model_len that one sequence can have in a number of blocks; 0 when none.

    vLLM's own search (`_estimate_max_model_len_from_groups`): its error names this length.
    """
    blocks = usable_blocks(config, blocks)
    low, high = 0, config.max_model_len
    while low < high:
        middle = (low + high + 1) // 2
        if layout.blocks_per_sequence(middle, in_flight_tokens(config)) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low


def _judged(
    ledger: MemoryLedger,
    facts: ModelFacts,
    gpu: Accelerator,
    config: ResolvedConfig,
    layout: KvLayout,
    available: float,
) -> MemoryLedger:
    """The ledger with its verdict."""
    reason = _refusal(ledger, facts, gpu, config, layout, available)
    where = _rank(facts, config, ledger.stage)
    if reason is not None:
        return replace(ledger, fits=False, reason=f"{where}{reason}")
    return replace(
        ledger,
        fits=True,
        reason=f"{where}KV cache of {ledger.kv_cache_gib:.2f} GiB holds {ledger.kv_cache_tokens:,} tokens: "
        f"{ledger.max_concurrency:.1f} sequences of {config.max_model_len:,}",
    )


def _rank(facts: ModelFacts, config: ResolvedConfig, stage: int) -> str:
    """Which GPUs a ledger is of, where they differ: `pipeline stage 0 of 4 (ranks 0 to 1, layers 0 to 7) binds: `."""
    stages, tensor = config.pipeline_parallel_size, config.tensor_parallel_size
    if stages == 1:
        return ""
    here = stage_range(facts, stages, stage)
    ranks = f"rank {stage}" if tensor == 1 else f"ranks {stage * tensor} to {(stage + 1) * tensor - 1}"
    return f"pipeline stage {stage} of {stages} ({ranks}, layers {here.start} to {here.stop - 1}) binds: "


def _refusal(
    ledger: MemoryLedger,
    facts: ModelFacts,
    gpu: Accelerator,
    config: ResolvedConfig,
    layout: KvLayout,
    available: float,
) -> str | None:
    """Why the engine would not start, or None."""
    if ledger.weights_gib >= ledger.requested_gib or available <= 0:
        whole = facts.checkpoint_bytes / GIB
        gpus = config.tensor_parallel_size * config.pipeline_parallel_size
        other = ledger.activation_peak_gib + ledger.non_torch_gib
        return (
            f"model {facts.name} needs {whole:.1f} GiB of weights, {gpus} x {gpu.product} has "
            f"{gpus * ledger.gpu_total_gib:.1f} GiB ({ledger.requested_gib:.1f} usable per GPU at "
            f"gpu_memory_utilization {config.gpu_memory_utilization:g}, {other:.1f} for activations and workspaces): "
            f"{_larger(facts, gpu, config, ledger)}"
        )
    if ledger.unused_gib < 0:
        most = 1 - (ledger.gpu_total_gib - ledger.requested_gib - ledger.unused_gib) / ledger.gpu_total_gib
        return (
            f"gpu_memory_utilization {config.gpu_memory_utilization:g} leaves "
            f"{ledger.gpu_total_gib - ledger.requested_gib:.2f} GiB of {ledger.gpu_total_gib:.2f} on {gpu.product}, "
            f"the CUDA context and graphs need {ledger.context_gib + ledger.cuda_graphs_gib:.2f}: "
            f"use {math.floor(most * 100) / 100:g}"
        )
    needed = layout.blocks_per_sequence(config.max_model_len, in_flight_tokens(config)) if layout.groups else 0
    if needed > usable_blocks(config, ledger.kv_cache_blocks):
        longest = longest_context(layout, config, ledger.kv_cache_blocks)
        return (
            f"max_model_len {config.max_model_len:,} needs {needed * layout.bytes_per_block / GIB:.2f} GiB of KV "
            f"cache, {ledger.kv_cache_gib:.2f} GiB are left: use max_model_len {longest:,} or a larger "
            "tensor_parallel_size"
        )
    return None


def _larger(facts: ModelFacts, gpu: Accelerator, config: ResolvedConfig, ledger: MemoryLedger) -> str:
    """The fix when weights do not fit: the smallest tensor parallelism at which they would, or a larger GPU."""
    whole = facts.checkpoint_bytes / GIB / config.pipeline_parallel_size
    size = config.tensor_parallel_size
    while size < 64:
        size *= 2
        if facts.num_attention_heads % size == 0 and whole / size < 0.85 * ledger.requested_gib:
            return f"use tensor_parallel_size {size} or a larger GPU"
    return "use more pipeline stages, a quantised checkpoint or a larger GPU"
