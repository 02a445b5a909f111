"""Vision towers: bytes of the image encoder beside a language model."""

from __future__ import annotations

from typing import Any

from plimsoll_recommender.facts.fields import Fields
from plimsoll_recommender.facts.layers import Split, Weight


def vision_weights(config: Fields) -> tuple[Weight, ...]:
    """Weights of the image encoder and its projector; empty for a language-only model.

    An encoder is counted as `depth` transformer blocks of 4 h^2 + 2 h w elements (three matrices where gated), its
    patch embedding and a projector into the language model: within a few per cent of the published towers. Unquantised,
    as checkpoints ship it.
    """
    settings = config.outer.get("vision_config")
    if not isinstance(settings, dict) or not settings:
        return ()

    def size(*keys: str, default: int) -> int:
        for key in keys:
            value: Any = settings.get(key)
            if isinstance(value, int) and value > 0:
                return value
        return default

    hidden = size("hidden_size", "vt_hidden_size", "embed_dim", "width", default=0)
    depth = size("depth", "num_hidden_layers", "vt_num_hidden_layers", "layers", default=0)
    if not hidden or not depth:
        return ()
    width = size("intermediate_size", "vt_intermediate_size", default=4 * hidden)
    gated = str(settings.get("hidden_act") or "") == "silu"
    patch = size("patch_size", default=14)
    merge = size("spatial_merge_size", default=2) if "pooling_kernel_size" not in settings else 1
    out = config.number("hidden_size", "n_embd", "d_model")
    merged = hidden * merge * merge
    return (
        Weight("vision_tower.attention", 4 * hidden, hidden, copies=depth),
        Weight("vision_tower.mlp", (3 if gated else 2) * width, hidden, copies=depth),
        Weight(
            "vision_tower.patch_embed",
            hidden,
            3 * patch * patch * size("temporal_patch_size", default=1),
            Split.REPLICATED,
            linear=False,
        ),
        Weight("multi_modal_projector", merged + out, merged),
    )
