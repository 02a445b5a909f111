"""The replica of a configuration: its scheduler's limits from the memory ledger, and how long its steps take."""

from __future__ import annotations

from dataclasses import dataclass

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import InfeasibleError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.efficiency import Efficiency
from plimsoll_recommender.latency.step_time import StepTimeModel
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import MemoryLedger, memory_ledger
from plimsoll_recommender.scheduler import SchedulerConfig
from plimsoll_recommender.scheduler.request import DEFAULT_BLOCK_SIZE

NULL_BLOCKS = 1
"""Blocks that vLLM's pool keeps for itself (`BlockPool.null_block`)."""


@dataclass(frozen=True)
class ModelledReplica:
    """A replica that a trace can be replayed through.

    Args:
        limits: of its scheduler.
        step_times: how long its steps take.
        config: engine settings, all known.
        ledger: its memory.
    """

    limits: SchedulerConfig
    step_times: StepTimeModel
    config: ResolvedConfig
    ledger: MemoryLedger


def modelled_replica(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    *,
    prefix_caching: bool = True,
    efficiency: Efficiency | None = None,
    kv_blocks: int | None = None,
) -> ModelledReplica:
    """The replica that this configuration would be.

    Args:
        facts: the model.
        gpu: the accelerator.
        config: engine settings; what is None is what the engine would choose.
        prefix_caching: whether blocks are found again by their content (vLLM's default).
        efficiency: shares of the GPU's figures to use instead of its generation's.
        kv_blocks: blocks of the KV cache as the engine logged them, instead of the ledger's.

    Raises:
        InfeasibleError: the engine would not start.
        RecommenderError: parallelism that the model cannot be divided by.
    """
    settings = resolve(config, facts, gpu)
    ledger = memory_ledger(facts, gpu, settings)
    if kv_blocks is None and not ledger.fits:
        raise InfeasibleError(ledger.reason)
    size = settings.block_size or ledger.block_size or DEFAULT_BLOCK_SIZE
    # Layouts with windows hold more tokens in a block than full attention would: count as the engine logs it.
    blocks = (kv_blocks if kv_blocks is not None else ledger.kv_cache_tokens // size) - NULL_BLOCKS
    limits = SchedulerConfig(
        kv_blocks=max(1, blocks),
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=min(settings.max_model_len, max(1, blocks) * size),
        block_size=size,
        prefix_caching=prefix_caching,
    )
    return ModelledReplica(limits, StepTimeModel.for_engine(facts, gpu, settings, efficiency), settings, ledger)
