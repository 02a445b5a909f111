"""Feed-forward layers: dense and mixture of experts."""

from __future__ import annotations

from typing import Final

from plimsoll_recommender.facts.fields import Fields
from plimsoll_recommender.facts.layers import Split, Weight

_PLAIN_ACTIVATIONS: Final = frozenset({"relu2", "gelu_new", "gelu_fast", "relu", "gelu_pytorch"})
"""Activations of feed-forward layers with two matrices; all others gate and have three."""

_PLAIN_MODELS: Final = frozenset(
    {"phi", "gpt2", "gpt_neox", "falcon", "opt", "bloom", "gpt_bigcode", "starcoder2", "mpt"}
)
"""Model types whose feed-forward layers have two matrices whatever the activation is called."""


_BIASED_MODELS: Final = frozenset({"phi", "gpt2", "opt", "gpt_bigcode", "starcoder2"})
"""Model types whose feed-forward layers have biases."""

_GATED_SHARED: Final = ("qwen2_moe", "qwen3_next", "qwen3_5")
"""Model types in which a gate of one row weighs the shared expert."""


_CORRECTED_ROUTERS: Final = ("deepseek_v3", "glm4_moe", "kimi_k2", "glm_moe_dsa", "minimax")
"""Model types whose router has a correction per expert."""


def is_gated(config: Fields) -> bool:
    """Whether feed-forward layers have a gate beside up and down."""
    activation = str(config.get("mlp_hidden_act", "hidden_act", "activation_function") or "silu")
    return activation not in _PLAIN_ACTIVATIONS and str(config.get("model_type") or "") not in _PLAIN_MODELS


def dense(config: Fields, width: int, *, prefix: str = "mlp") -> tuple[Weight, ...]:
    """A dense feed-forward layer of a width."""
    hidden = config.number("hidden_size", "n_embd", "d_model")
    weights = [
        Weight(f"{prefix}.up_proj", width, hidden, fused=f"{prefix}.gate_up_proj"),
        Weight(f"{prefix}.down_proj", hidden, width),
    ]
    if is_gated(config):
        weights.append(Weight(f"{prefix}.gate_proj", width, hidden, fused=f"{prefix}.gate_up_proj"))
    if str(config.get("model_type") or "") in _BIASED_MODELS:
        weights.append(Weight(f"{prefix}.bias", width + hidden, split=Split.REPLICATED, linear=False))
    return tuple(weights)


def expert_count(config: Fields) -> int:
    """Routed experts; 0 for a dense model."""
    return config.number("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", default=0, least=0)


def active_experts(config: Fields) -> int:
    """Routed experts that one token uses."""
    return config.number(
        "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "experts_per_token", "moe_top_k", default=1
    )


def expert_width(config: Fields) -> int:
    """Width of one routed expert."""
    return config.number("moe_intermediate_size", "expert_intermediate_size", "intermediate_size", "ffn_hidden_size")


def _shared_width(config: Fields) -> int:
    stated = config.get(
        "moe_shared_expert_intermediate_size",
        "shared_expert_intermediate_size",
        "share_expert_dim",
        "shared_intermediate_size",
    )
    if stated is not None:
        return int(stated)
    count = config.get("n_shared_experts", "num_shared_experts")
    if count:
        return int(count) * expert_width(config)
    if str(config.get("model_type") or "").startswith("llama4"):
        return config.number("intermediate_size")
    return 0


def experts(config: Fields, *, prefix: str = "mlp") -> tuple[Weight, ...]:
    """A mixture of experts: router, routed experts, shared experts, and the latent projections around them."""
    hidden = config.number("hidden_size", "n_embd", "d_model")
    count, active, width = expert_count(config), active_experts(config), expert_width(config)
    # LatentMoE (Nemotron 3 Super, Kimi K3) routes a down-projected hidden state.
    inner = config.number("moe_latent_size", "routed_expert_hidden_size", default=hidden)
    gated = is_gated(config)
    # Gemma 4 keeps its experts beside the dense layer, not inside it.
    routed = "experts" if config.flag("enable_moe_block") else f"{prefix}.experts"
    weights = [
        Weight(f"{prefix}.gate", count, hidden, Split.REPLICATED, linear=False),
        Weight(f"{routed}.0.up_proj", width, inner, Split.EXPERTS, count, active, fused="w13"),
        Weight(f"{routed}.0.down_proj", inner, width, Split.EXPERTS, count, active),
    ]
    if gated:
        weights.append(Weight(f"{routed}.0.gate_proj", width, inner, Split.EXPERTS, count, active, fused="w13"))
    if str(config.get("model_type") or "") == "gpt_oss":
        # Biases of the router, of gate and up, and of down; attention sinks.
        vectors = 2 * width + hidden
        weights.append(Weight(f"{routed}.0.bias", vectors, 1, Split.EXPERTS, count, active, linear=False))
        sinks = config.number("num_attention_heads")
        weights.append(Weight(f"{prefix}.router_bias", count + sinks, split=Split.REPLICATED, linear=False))
    if str(config.get("model_type") or "").startswith(_CORRECTED_ROUTERS):
        weights.append(Weight(f"{prefix}.gate.e_score_correction_bias", count, split=Split.REPLICATED, linear=False))
    if inner != hidden:
        weights.append(Weight(f"{prefix}.fc1_latent_proj", inner, hidden, Split.REPLICATED))
        weights.append(Weight(f"{prefix}.fc2_latent_proj", hidden, inner, Split.REPLICATED))
    shared = _shared_width(config)
    if shared:
        weights.extend(dense(config, shared, prefix=f"{prefix}.shared_expert"))
        if str(config.get("model_type") or "").startswith(_GATED_SHARED):
            weights.append(Weight(f"{prefix}.shared_expert_gate", 1, hidden, Split.REPLICATED, linear=False))
    return tuple(weights)


def widest(weights: tuple[Weight, ...], *, dense_only: bool) -> int:
    """Width of the widest feed-forward matrix: of the dense part, or of one routed expert."""
    routed = [weight for weight in weights if weight.module.endswith("experts.0.up_proj")]
    if not dense_only:
        return max((weight.rows for weight in routed), default=0)
    return max(
        (weight.rows for weight in weights if weight.module.endswith("up_proj") and weight not in routed), default=0
    )
