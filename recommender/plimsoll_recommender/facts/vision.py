"""Vision towers: the image encoder beside a language model, its positions and what joins the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plimsoll_recommender.facts.fields import Fields
from plimsoll_recommender.facts.layers import Split, Weight

QWEN3_DEEPSTACK: Final = 3
"""Encoder layers whose output Qwen3-VL also feeds to the language model, each through a merger, where not stated."""

QWEN3_POSITIONS: Final = 2304
"""Learned positions of Qwen3-VL's encoder, where not stated (48 x 48)."""

SIGLIP_PROJECTED: Final = ("gemma3", "gemma4")
"""Model types that join encoder and language model by one matrix, after pooling."""


def vision_weights(config: Fields) -> tuple[Weight, ...]:
    """Weights of the image encoder and what joins it to the language model; empty for a language-only model.

    An encoder has `depth` blocks of 4 h^2 + 2 h w elements (three matrices where gated) with their biases and norms,
    a patch embedding and learned positions. Exact for Qwen3-VL, Gemma 3 and Llama 4, within 0.1 % of the model for the
    others that are known. Unquantised, as checkpoints ship it.
    """
    settings = config.outer.get("vision_config")
    if not isinstance(settings, Mapping) or not settings:
        return ()
    hidden = _size(settings, "hidden_size", "vt_hidden_size", "embed_dim", "width")
    depth = _size(settings, "depth", "num_hidden_layers", "vt_num_hidden_layers", "layers")
    if not hidden or not depth:
        return ()
    width = _size(settings, "intermediate_size", "vt_intermediate_size") or 4 * hidden
    gated = str(settings.get("hidden_act") or "") == "silu"
    patch = _size(settings, "patch_size") or 14
    channels = 3 * patch * patch * (_size(settings, "temporal_patch_size") or 1)
    vectors = 2 * hidden if gated else 9 * hidden + width
    weights = [
        Weight("vision_tower.attention", 4 * hidden, hidden, copies=depth),
        Weight("vision_tower.mlp", (3 if gated else 2) * width, hidden, copies=depth),
        Weight("vision_tower.vectors", vectors, copies=depth, split=Split.REPLICATED, linear=False),
        Weight("vision_tower.patch_embed", hidden, channels, Split.REPLICATED, linear=False),
    ]
    positions = _positions(config, settings, patch)
    if positions:
        weights.append(Weight("vision_tower.positions", positions, hidden, Split.REPLICATED, linear=False))
    return (*weights, *_joining(config, settings, hidden))


def _positions(config: Fields, settings: Mapping[str, Any], patch: int) -> int:
    """Learned positions of the encoder; 0 where it rotates instead, or the number is not known."""
    stated = _size(settings, "num_position_embeddings")
    if stated:
        return stated
    if _family(config).startswith("qwen3_vl"):
        return QWEN3_POSITIONS
    tall, wide = _size(settings, "init_pos_emb_height"), _size(settings, "init_pos_emb_width")
    if tall and wide:
        return tall * wide
    image = _size(settings, "image_size")
    # A class token beside the patches, where there is a projector for it (Llama 4).
    return (image // patch) ** 2 + (1 if settings.get("projector_input_dim") else 0) if image else 0


def _joining(config: Fields, settings: Mapping[str, Any], hidden: int) -> list[Weight]:
    """What turns the encoder's output into the language model's hidden states."""
    out = config.number("hidden_size", "n_embd", "d_model")
    family = _family(config)
    if settings.get("projector_input_dim"):
        inner, outer = _size(settings, "projector_input_dim"), _size(settings, "projector_output_dim")
        shuffled = 4 * hidden
        ends = Weight("vision_tower.ends", 5 * hidden, split=Split.REPLICATED, linear=False)
        adapter = Weight("vision_adapter", inner * shuffled + outer * inner, split=Split.TENSOR)
        return [ends, adapter, Weight("multi_modal_projector", out, outer)]
    if family.startswith(SIGLIP_PROJECTED):
        ends = Weight("vision_tower.ends", 4 * hidden, split=Split.REPLICATED, linear=False)
        return [ends, Weight("multi_modal_projector", out, hidden)]
    merge = _size(settings, "spatial_merge_size") or 2
    merged = hidden * merge * merge
    mergers = 1
    vectors = 2 * hidden + merged + out
    if family.startswith("qwen3_vl"):
        stated = settings.get("deepstack_visual_indexes")
        extra = len(stated) if isinstance(stated, list) else QWEN3_DEEPSTACK
        mergers += extra
        vectors += hidden + extra * (2 * merged + merged + out)
    return [
        Weight("multi_modal_projector", merged + out, merged, copies=mergers),
        Weight("multi_modal_projector.vectors", vectors, split=Split.REPLICATED, linear=False),
    ]


def _family(config: Fields) -> str:
    return str(config.outer.get("model_type") or "")


def _size(settings: Mapping[str, Any], *keys: str) -> int:
    """The first of the keys that is a positive whole number, else 0."""
    for key in keys:
        value: Any = settings.get(key)
        if type(value) is int and value > 0:
            return value
    return 0
