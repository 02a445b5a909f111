"""What the engine chooses for settings that are left to it."""

from __future__ import annotations

from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig, resolved_with
from plimsoll_recommender.facts.model import ModelFacts

UTILIZATION_RAISED: Final = (0, 20, 0)
"""From this release gpu_memory_utilization defaults to 0.92 instead of 0.90."""

LARGE_TIER_ADDED: Final = (0, 30, 0)
"""From this release GPUs of 160 GiB and more have a tier of their own."""


def default_batch(gpu: Accelerator, version: tuple[int, int, int]) -> tuple[int, int]:
    """(max_num_batched_tokens, max_num_seqs) of vLLM's API server by GPU memory (`EngineArgs`, 0.19 and 0.33)."""
    if gpu.memory_gib >= 160 and version >= LARGE_TIER_ADDED:
        return 16_384, 1024
    if gpu.memory_gib >= 70 and "A100" not in gpu.product and "GB10" not in gpu.product:
        return 8192, 1024
    return 2048, 256


def resolve(config: EngineConfig, facts: ModelFacts, gpu: Accelerator) -> ResolvedConfig:
    """The config with everything that was left to the engine filled in as the engine would."""
    tokens, sequences = default_batch(gpu, config.version)
    longest = config.max_model_len or facts.max_position_embeddings
    if config.max_num_batched_tokens is not None:
        tokens = config.max_num_batched_tokens
        sequences = config.max_num_seqs or min(sequences, tokens)
    elif config.max_num_seqs is not None:
        sequences = config.max_num_seqs
        tokens = max(tokens, sequences)
    if config.max_num_batched_tokens is None:
        # A step never has more than every sequence's whole context (`EngineArgs`).
        tokens = min(tokens, sequences * longest)
        sequences = min(sequences, tokens)
    utilization = config.gpu_memory_utilization
    if utilization is None:
        utilization = 0.92 if config.version >= UTILIZATION_RAISED else 0.90
    return resolved_with(
        config,
        max_num_batched_tokens=tokens,
        max_num_seqs=sequences,
        max_model_len=longest,
        gpu_memory_utilization=utilization,
    )
