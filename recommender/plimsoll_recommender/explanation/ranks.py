"""Memory of every GPU of a replica: tensor- and data-parallel ranks are alike, pipeline stages are not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.facts.model import GIB, ModelFacts
from plimsoll_recommender.memory.ledger import MemoryLedger, layout_of
from plimsoll_recommender.memory.weights import stage_weight_bytes


@dataclass(frozen=True)
class RankMemory:
    """GPUs of a replica that hold the same.

    Args:
        name: which GPUs, such as `GPUs 0-3, stage 1 of 2`.
        ledger: their memory.
        limiting: whether the replica's KV blocks are as many as fit on these.
    """

    name: str
    ledger: MemoryLedger
    limiting: bool


def ranks_of(facts: ModelFacts, config: ResolvedConfig, limiting: MemoryLedger) -> tuple[RankMemory, ...]:
    """One entry per pipeline stage. Every stage keeps as many KV blocks as the limiting one.

    Args:
        facts: the model.
        config: engine settings.
        limiting: the ledger of the stage that limits, as `memory_ledger` gives it.
    """
    stages = config.pipeline_parallel_size
    alike = config.tensor_parallel_size * config.data_parallel_size
    if stages == 1:
        return (RankMemory(_gpus(0, alike), limiting, limiting=True),)
    loaded = facts.as_loaded(config.dtype, config.quantization)
    # Measured or corrected weights hold for the limiting stage; the others keep their proportion to it.
    scale = limiting.weights_gib / (stage_weight_bytes(loaded, config, limiting.stage) / GIB)
    found = []
    for stage in range(stages):
        name = f"{_gpus(stage * alike, alike)}, stage {stage + 1} of {stages}"
        if stage == limiting.stage:
            found.append(RankMemory(name, limiting, limiting=True))
            continue
        held = limiting.kv_cache_blocks * layout_of(loaded, config, stage).bytes_per_block / GIB
        weights = stage_weight_bytes(loaded, config, stage) / GIB * scale
        ledger = replace(limiting, weights_gib=weights, kv_cache_gib=held, stage=stage)
        found.append(RankMemory(name, ledger, limiting=False))
    return tuple(found)


def _gpus(first: int, count: int) -> str:
    return f"GPU {first}" if count == 1 else f"GPUs {first}-{first + count - 1}"
