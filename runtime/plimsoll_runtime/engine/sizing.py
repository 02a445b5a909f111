"""From flags to a scheduler and a step-time model, or to vLLM's own refusal to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from plimsoll_recommender.catalogue.accelerators import Accelerator, accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.step_time import StepTimeModel
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import MemoryLedger, layout_of, longest_context, memory_ledger
from plimsoll_recommender.scheduler import SchedulerConfig
from plimsoll_recommender.scheduler.request import DEFAULT_BLOCK_SIZE
from plimsoll_recommender.step_load import StepLoad
from plimsoll_runtime.engine.settings import Settings


class StartError(Exception):
    """The engine does not start; its text is what vLLM would say."""


class StepTimes(Protocol):
    """Seconds of a step."""

    def seconds(self, load: StepLoad) -> float:
        """Seconds of one step with this load."""


@dataclass(frozen=True)
class Plan:
    """What the engine will run with.

    Args:
        scheduler: limits of its scheduler.
        step_times: how long steps take.
        config: engine settings, all known.
        total_blocks: KV blocks, the one that vLLM keeps for itself included.
        kv_cache_tokens: tokens of the KV cache, as vLLM logs them.
        max_concurrency: sequences of max_model_len that fit at once.
    """

    scheduler: SchedulerConfig
    step_times: StepTimes
    config: ResolvedConfig
    total_blocks: int
    kv_cache_tokens: int
    max_concurrency: float


def plan(settings: Settings) -> Plan:
    """Size the engine.

    Raises:
        StartError: it would not start.
    """
    try:
        facts = ModelFacts.load(settings.model)
        gpu = accelerator(settings.gpu)
        _check_context(settings, facts)
        asked = _engine_config(settings)
        ledger = memory_ledger(facts, gpu, asked)
        config = resolve(asked, facts, gpu)
        step_times = StepTimeModel.for_engine(facts, gpu, config)
    except RecommenderError as error:
        raise StartError(f"ValueError: {error}") from error
    _check_gpus(settings)
    _check_free_memory(settings, config, ledger)
    if settings.num_gpu_blocks_override is None:
        _check_memory(facts, gpu, config, ledger)
    total = settings.num_gpu_blocks_override or ledger.kv_cache_blocks
    return _plan(settings, config, ledger, step_times, total)


def _check_context(settings: Settings, facts: ModelFacts) -> None:
    """Refuse a context beyond the model's, in vLLM's words."""
    if settings.max_model_len is not None and settings.max_model_len > facts.max_position_embeddings:
        raise StartError(
            f"ValueError: User-specified max_model_len ({settings.max_model_len}) is greater than the derived "
            f"max_model_len (max_position_embeddings={facts.max_position_embeddings})."
        )


def _plan(settings: Settings, config: ResolvedConfig, ledger: MemoryLedger, step_times: StepTimes, total: int) -> Plan:
    block_size = settings.block_size or ledger.block_size or DEFAULT_BLOCK_SIZE
    # Layouts with windows hold more tokens in a block than one sequence's full attention would: count as vLLM logs it.
    tokens = ledger.kv_cache_tokens if settings.num_gpu_blocks_override is None else total * block_size
    try:
        limits = SchedulerConfig(
            kv_blocks=max(1, tokens // block_size - 1),
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_model_len=config.max_model_len,
            block_size=block_size,
            prefix_caching=settings.enable_prefix_caching,
        )
    except ValueError as error:
        raise StartError(f"ValueError: {error}") from error
    return Plan(
        scheduler=limits,
        step_times=step_times,
        config=config,
        total_blocks=total,
        kv_cache_tokens=tokens,
        max_concurrency=tokens / config.max_model_len,
    )


def _engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        max_model_len=settings.max_model_len,
        dtype=settings.dtype,
        quantization=settings.quantization,
        kv_cache_dtype=settings.kv_cache_dtype,
        enforce_eager=settings.enforce_eager,
        block_size=settings.block_size,
    )


def _check_gpus(settings: Settings) -> None:
    world = settings.tensor_parallel_size * settings.pipeline_parallel_size
    if settings.visible_gpus is not None and world > settings.visible_gpus:
        raise StartError(
            f"ValueError: World size ({world}) is larger than the number of available GPUs "
            f"({settings.visible_gpus}) in this node. If this is intentional and you are using: "
            "- ray, set '--distributed-executor-backend ray'. - multiprocessing, set '--nnodes' appropriately."
        )


def _check_free_memory(settings: Settings, config: ResolvedConfig, ledger: MemoryLedger) -> None:
    """Refuse a share of the GPU that is not free, which vLLM finds before it loads anything."""
    free = max(0.0, ledger.gpu_total_gib - ledger.context_gib - settings.gpu_memory_taken)
    if settings.gpu_memory_taken and free < ledger.requested_gib:
        raise StartError(
            f"ValueError: Free memory on device cuda:0 ({free:.2f}/{ledger.gpu_total_gib:.2f} GiB) on startup is less "
            f"than desired GPU memory utilization ({config.gpu_memory_utilization:g}, {ledger.requested_gib:.2f} GiB). "
            "Decrease GPU memory utilization or reduce GPU memory used by other processes."
        )


def _check_memory(facts: ModelFacts, gpu: Accelerator, config: ResolvedConfig, ledger: MemoryLedger) -> None:
    """Refuse as vLLM 0.32 does, in the order in which it finds out."""
    if ledger.fits:
        return
    if ledger.weights_gib > ledger.gpu_total_gib - ledger.context_gib:
        free = max(0.0, ledger.gpu_total_gib - ledger.context_gib)
        raise StartError(
            f"torch.OutOfMemoryError: CUDA out of memory. GPU 0 has a total capacity of {ledger.gpu_total_gib:.2f} GiB "
            f"of which {free:.2f} GiB were free; {facts.name} needs {ledger.weights_gib:.2f} GiB for its weights. "
            f"({ledger.reason})"
        )
    if ledger.kv_cache_blocks == 0:
        raise StartError(
            "ValueError: No available memory for the cache blocks. "
            f"Try increasing `gpu_memory_utilization` when initializing the engine. ({ledger.reason})"
        )
    layout = layout_of(facts, config, ledger.stage)
    longest = longest_context(layout, config, ledger.kv_cache_blocks)
    if longest < config.max_model_len:
        raise StartError(
            f"ValueError: To serve at least one request with the model's max seq len ({config.max_model_len}), more "
            f"KV cache is needed than the available KV cache memory ({ledger.kv_cache_gib:.2f} GiB). Based on the "
            f"available memory, the estimated maximum model length is {longest}. Try increasing "
            f"`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine. ({ledger.reason})"
        )
    raise StartError(f"torch.OutOfMemoryError: CUDA out of memory on {gpu.product}. ({ledger.reason})")
