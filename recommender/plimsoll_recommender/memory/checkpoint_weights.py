"""Exact weights of one GPU from the tensors of a checkpoint: each is placed and divided as vLLM does it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.layers import Layer, Split, Weight, allocated
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.facts.module_names import canonical_module
from plimsoll_recommender.facts.safetensors import StoredTensor

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)$")
"""A tensor of a layer: its number and its name inside."""

_EMBEDDINGS: Final = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight",
                      "tok_embeddings.weight", "embeddings.weight")  # fmt: skip
_HEADS: Final = ("lm_head.", "embed_out.", "output.weight")
_VISION: Final = ("vision", "visual", "multi_modal_projector", "mm_projector", "image_newline", "audio_tower")
_DRAFTS: Final = ("mtp.", ".mtp.")
_IGNORED: Final = ("rotary_emb.inv_freq", "attn.masked_bias", "attn.bias")
"""Parts of tensor names that say where a tensor belongs, and tensors that no engine loads."""

_WHOLE: Final = ("norm", "mlp.gate", "router", "shared_expert_gate", "indexer", "q_a_proj", "kv_a_proj", "latent_proj")
"""Modules of which every GPU keeps all."""


def stored_stage_bytes(facts: ModelFacts, config: EngineConfig, here: range) -> float:
    """Bytes of the tensors that the fullest GPU of a pipeline stage holds, as the allocator counts them.

    Added to what is stored: the copies that vLLM makes (absorbed latents) and its padding. Left out: drafters, copies
    of a tied head.

    Args:
        facts: the model, with a checkpoint.
        config: parallelism.
        here: places of the layers on the stage.
    """
    assert facts.checkpoint is not None
    first, last = here.start == 0, here.stop == len(facts.layers)
    held: dict[tuple[int, str], float] = {}
    for tensor in facts.checkpoint.tensors:
        placed = _layer_of(tensor.name)
        if any(part in tensor.name for part in _IGNORED) or _is_draft(tensor.name, placed, len(facts.layers)):
            continue
        if placed is not None and not _is_vision(tensor.name):
            place, inside = placed
            if place in here:
                key, share = _inside_layer(facts.layers[place], inside, tensor, config)
                held[place, key] = held.get((place, key), 0.0) + _loaded(tensor, facts) * share
        else:
            size = _loaded(tensor, facts) * _outside_share(tensor, facts, config, first=first, last=last)
            held[-1, tensor.name] = size
    made = sum(
        weight.bytes_per_gpu(config.tensor_parallel_size)
        for place in here
        for weight in facts.layers[place].weights
        if weight.module.endswith("absorbed")
    )
    return sum(allocated(size) for size in held.values()) + made


def _layer_of(name: str) -> tuple[int, str] | None:
    found = _LAYER.search(name)
    return (int(found.group(1)), found.group(2)) if found else None


def _is_vision(name: str) -> bool:
    return any(part in name for part in _VISION)


def _is_draft(name: str, placed: tuple[int, str] | None, layers: int) -> bool:
    drafts = name.startswith(_DRAFTS[0]) or _DRAFTS[1] in name
    return drafts or (placed is not None and placed[0] >= layers and not _is_vision(name))


def _loaded(tensor: StoredTensor, facts: ModelFacts) -> float:
    """Bytes once loaded: matrices stored in float32 become the model's type; scales and routers' biases stay."""
    matrix = len(tensor.shape) > 1 and tensor.name.endswith("weight")
    return tensor.size * facts.dtype_bytes / 4 if tensor.dtype == "F32" and matrix else float(tensor.size)


def _outside_share(tensor: StoredTensor, facts: ModelFacts, config: EngineConfig, *, first: bool, last: bool) -> float:
    """Share of a tensor outside the layers that one GPU of a stage holds."""
    split = config.tensor_parallel_size
    if _is_vision(tensor.name):
        whole = config.mm_encoder_tp_mode == "data" or len(tensor.shape) < 2 or "patch_embed" in tensor.name
        return float(first) * (1.0 if whole else 1 / split)
    if tensor.name.endswith(_EMBEDDINGS):
        return facts.embedding.share(split) if first or (last and facts.head is None) else 0.0
    if any(tensor.name.startswith(part) or f".{part}" in tensor.name for part in _HEADS):
        return facts.head.share(split) if last and facts.head is not None else 0.0
    return float(last)


def _inside_layer(layer: Layer, inside: str, tensor: StoredTensor, config: EngineConfig) -> tuple[str, float]:
    """(matrix that it is stored in, share that one GPU holds) of a tensor of a layer."""
    module = canonical_module(inside.rpartition(".")[0])
    split = config.tensor_parallel_size
    if ".experts" in f".{module}" and "shared" not in module:
        routed = [weight for weight in layer.weights if weight.split is Split.EXPERTS]
        down = any(part in inside for part in ("down", "w2"))
        chosen = [weight for weight in routed if weight.module.endswith("down_proj") == down] or routed
        key = "w2" if down else "w13"
        group = split * config.data_parallel_size
        if not chosen or len(tensor.shape) < 1:
            return key, 1 / group
        return key, chosen[0].expert_share(group, whole=config.expert_parallel)
    described = [weight for weight in layer.weights if canonical_module(weight.module) == module]
    if described:
        # A matrix follows the split of its parts; vectors beside it (norms, scales of one value) are kept whole.
        return described[0].fused or module, _share(described, split) if len(tensor.shape) > 1 else 1.0
    last = module.rpartition(".")[2]
    fused = [weight for weight in layer.weights if weight.fused.rpartition(".")[2] == last]
    if fused and last:
        return module, _share(fused, split)
    whole = len(tensor.shape) < 2 or any(part in module for part in _WHOLE)
    return module, 1.0 if whole else 1 / split


def _share(parts: Sequence[Weight], split: int) -> float:
    """Share that one GPU holds of a matrix whose parts are divided each in their own way."""
    return sum(part.share(split) * part.elements for part in parts) / sum(part.elements for part in parts)
