"""Weights of one GPU: its pipeline stage's share of the model, adapters and drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.facts.layers import Layer, Split, Weight
from plimsoll_recommender.facts.model import GIB, ModelFacts
from plimsoll_recommender.memory.checkpoint_weights import stored_stage_bytes


def stage_range(facts: ModelFacts, stages: int, stage: int) -> range:
    """Places of the layers of one pipeline stage, as vLLM's get_pp_indices divides them.

    Even parts; what remains goes to the stages before the last, one each from the back.
    """
    base, extra = divmod(len(facts.layers), stages)
    sizes = [base + (1 if stages - 1 - extra <= place < stages - 1 else 0) for place in range(stages)]
    begin = sum(sizes[:stage])
    return range(begin, begin + sizes[stage])


def stage_layers(facts: ModelFacts, stages: int, stage: int) -> tuple[Layer, ...]:
    """Layers of one pipeline stage."""
    here = stage_range(facts, stages, stage)
    return facts.layers[here.start : here.stop]


def _counted(layers: Sequence[Layer]) -> list[tuple[Layer, int]]:
    """(layer, how many there are), told apart as objects: comparing every weight of every layer would take longer."""
    counts = Counter(map(id, layers))
    return [(layer, counts[key]) for key, layer in {id(layer): layer for layer in layers}.items()]


def expert_group(config: EngineConfig) -> int:
    """GPUs that a layer's experts are placed on or split over: vLLM counts data parallel ranks in, either way."""
    return config.tensor_parallel_size * config.data_parallel_size


def stage_weight_bytes(facts: ModelFacts, config: EngineConfig, stage: int) -> float:
    """Weight bytes that the fullest GPU of a pipeline stage holds.

    Tensor by tensor where the checkpoint's headers were read; else from config.json, corrected in proportion where the
    checkpoint's total is known.
    """
    if facts.checkpoint is not None and facts.checkpoint.tensors:
        return stored_stage_bytes(facts, config, stage_range(facts, config.pipeline_parallel_size, stage)) + (
            facts.rotary_bytes
        )
    held = _described_stage_bytes(facts, config, stage)
    if facts.weight_bytes is not None:
        held *= facts.weight_bytes / described_checkpoint_bytes(facts)
    return held + facts.rotary_bytes


def described_checkpoint_bytes(facts: ModelFacts) -> float:
    """Bytes that the checkpoint has by its description; a drafter counts where the checkpoint's index names it."""
    described = replace(facts, weight_bytes=None, checkpoint=None).checkpoint_bytes
    names = facts.checkpoint.names if facts.checkpoint is not None else frozenset()
    first = f"layers.{len(facts.layers)}."
    if facts.draft_layers and any(name.startswith("mtp.") or first in name or ".mtp." in name for name in names):
        described += _elements_bytes(weight for layer in facts.draft_layers for weight in layer.weights)
        copies = sum(first in name and name.endswith(("embed_tokens.weight", "head.weight")) for name in names)
        described += copies * facts.embedding.elements * facts.embedding.bits / 8
    return described


def _elements_bytes(weights: Iterable[Weight]) -> float:
    return sum(weight.elements * weight.bits / 8 for weight in weights if not weight.module.endswith("absorbed"))


def _described_stage_bytes(facts: ModelFacts, config: EngineConfig, stage: int) -> float:
    tensor, experts = config.tensor_parallel_size, expert_group(config)
    layers = stage_layers(facts, config.pipeline_parallel_size, stage)
    held = sum(
        count * layer.bytes_per_gpu(tensor, experts, config.expert_parallel) for layer, count in _counted(layers)
    )
    first, last = stage == 0, stage == config.pipeline_parallel_size - 1
    if first:
        held += facts.embedding.bytes_per_gpu(tensor)
        held += vision_bytes(facts, config)
    if last and facts.final_norm is not None:
        held += facts.final_norm.bytes_per_gpu(tensor)
    if last and facts.head is not None:
        held += facts.head.bytes_per_gpu(tensor)
    elif last and not first:
        held += facts.embedding.bytes_per_gpu(tensor)
    return held


def vision_bytes(facts: ModelFacts, config: EngineConfig) -> float:
    """Bytes of the image encoder on one GPU: divided, or whole with `mm_encoder_tp_mode` data."""
    split = 1 if config.mm_encoder_tp_mode == "data" else config.tensor_parallel_size
    return sum(weight.bytes_per_gpu(split) for weight in facts.vision)


def adapter_bytes(facts: ModelFacts, config: ResolvedConfig, layers: tuple[Layer, ...], *, ends: int) -> float:
    """Bytes of LoRA adapters that vLLM sets aside at start, whatever is loaded later.

    Per slot and matrix A: rank x inputs and B: outputs x rank, in the model's type (`create_lora_weights`): a matrix
    divided by outputs keeps all inputs of A, one divided by inputs all outputs of B. Matrices stored fused have an A
    each.

    Args:
        facts: the model as loaded.
        config: engine settings.
        layers: layers of the GPU's stage.
        ends: how many of embedding and head are on the stage.
    """
    if not config.max_loras:
        return 0.0
    elements = sum(
        count * _adapter_elements(weight, config) for layer, count in _counted(layers) for weight in layer.weights
    )
    elements += ends * (facts.vocab_size + facts.hidden_size)
    return config.max_loras * config.max_lora_rank * elements * facts.dtype_bytes


def _adapter_elements(weight: Weight, config: EngineConfig) -> float:
    """Inputs and outputs, per unit of rank, of the adapter of one matrix on one GPU."""
    if not weight.linear or weight.module.endswith("absorbed"):
        return 0.0
    by_inputs = weight.module.endswith(("o_proj", "down_proj", "out_proj", "wo_b"))
    split = expert_group(config) if weight.split is Split.EXPERTS else config.tensor_parallel_size
    if weight.split is Split.EXPERTS and config.expert_parallel:
        return -(-weight.copies // split) * (weight.rows + weight.columns)
    if weight.split is Split.REPLICATED:
        return weight.rows + weight.columns
    share = weight.share(split) if weight.split is Split.KV_HEADS else 1 / split
    one = weight.columns * share + weight.rows if by_inputs else weight.columns + weight.rows * share
    return weight.copies * one


def draft_bytes(facts: ModelFacts, config: ResolvedConfig, draft: ModelFacts | None) -> float:
    """Bytes of the drafter on one GPU of the last stage: a model of its own, or the model's own prediction layers.

    Drafters share the target's embedding and head; only a draft model of its own brings both.
    """
    if config.draft_weights_gib:
        return config.draft_weights_gib * GIB
    if not config.num_speculative_tokens:
        return 0.0
    tensor, experts = config.tensor_parallel_size, expert_group(config)
    if draft is not None:
        held = sum(layer.bytes_per_gpu(tensor, experts, config.expert_parallel) for layer in draft.layers)
        if config.speculative_method in (None, "draft_model"):
            held += draft.embedding.bytes_per_gpu(tensor) + (draft.head.bytes_per_gpu(tensor) if draft.head else 0.0)
        return held + draft.rotary_bytes
    layers = built_in_draft(facts, config)
    return sum(layer.bytes_per_gpu(tensor, experts, config.expert_parallel) for layer in layers)


def built_in_draft(facts: ModelFacts, config: EngineConfig) -> tuple[Layer, ...]:
    """The model's own prediction layers, when the settings speculate with them."""
    own = config.num_speculative_tokens > 0 and config.speculative_method in (None, "mtp")
    return facts.draft_layers if own and not config.draft_weights_gib else ()
