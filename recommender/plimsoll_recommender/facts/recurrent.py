"""Recurrent blocks: what they multiply with, and the state they keep per sequence instead of a cache per token.

Shapes of weights follow the models' published definitions; those of states vLLM's MambaStateShapeCalculator.
"""

from __future__ import annotations

from typing import Final

from plimsoll_recommender.facts.attention import Attention, attention_heads, head_dim
from plimsoll_recommender.facts.fields import Fields
from plimsoll_recommender.facts.layers import Split, StateCache, Weight

STATE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 0}
"""Bytes per element of a recurrent state by its configured type; 0 is the model's (`_mamba_state_dtype` of vLLM)."""

FLOAT32_STATES: Final = ("nemotron_h",)
"""Model types whose state vLLM keeps in float32 where config.json does not say."""


def delta_net(config: Fields) -> Attention:
    """Gated delta net (Qwen3-Next, Qwen3.5): linear attention with a matrix state per value head."""
    hidden = config.number("hidden_size")
    key_heads, value_heads = config.number("linear_num_key_heads"), config.number("linear_num_value_heads")
    key_dim, value_dim = config.number("linear_key_head_dim"), config.number("linear_value_head_dim")
    keys, values = key_heads * key_dim, value_heads * value_dim
    kernel = config.number("linear_conv_kernel_dim")
    weights = (
        Weight("linear_attn.in_proj_qkv", 2 * keys + values, hidden),
        Weight("linear_attn.in_proj_z", values, hidden),
        Weight("linear_attn.in_proj_ba", 2 * value_heads, hidden),
        Weight("linear_attn.conv1d", 2 * keys + values, kernel, linear=False),
        Weight("linear_attn.out_proj", hidden, values),
        Weight("linear_attn.norm", value_dim + 2 * value_heads, split=Split.REPLICATED, linear=False),
        Weight("input_layernorm", 2 * hidden, split=Split.REPLICATED, linear=False),
    )
    state_bytes = STATE_BYTES.get(str(config.get("mamba_ssm_dtype") or "auto"), 4)
    cache = StateCache(value_heads * value_dim * key_dim, state_bytes, 2 * keys + values, kernel - 1)
    return Attention(weights, cache)


def kimi_delta(config: Fields) -> Attention:
    """Kimi delta attention: linear attention with a gate per channel."""
    settings = Fields(config.section("linear_attn_config") or {}, config.name)
    hidden = config.number("hidden_size")
    heads, dim, kernel = (
        settings.number("num_heads"),
        settings.number("head_dim"),
        settings.number("short_conv_kernel_size"),
    )
    width = heads * dim
    gate = width if settings.flag("use_full_rank_gate") else dim
    weights = (
        Weight("self_attn.q_proj", width, hidden),
        Weight("self_attn.k_proj", width, hidden),
        Weight("self_attn.v_proj", width, hidden),
        Weight("self_attn.o_proj", hidden, width),
        Weight("self_attn.g_proj", gate, hidden),
        Weight("self_attn.f_a_proj", dim, hidden, Split.REPLICATED),
        Weight("self_attn.f_b_proj", width, dim),
        Weight("self_attn.b_proj", heads, hidden),
        Weight("input_layernorm", 2 * hidden, split=Split.REPLICATED, linear=False),
    )
    return Attention(weights, StateCache(heads * dim * dim, 4, 3 * width, kernel - 1))


def mamba2(config: Fields, *, prefix: str = "mixer", norms: int = 1) -> Attention:
    """Mamba-2 mixer (Nemotron-H, Granite 4 and others).

    Args:
        config: the model's settings.
        prefix: what checkpoints call the block.
        norms: norms of the layer, one of them before the block.
    """
    hidden = config.number("hidden_size")
    heads = config.number("mamba_num_heads", "mamba_n_heads")
    dim = config.number("mamba_head_dim", "mamba_d_head")
    state, groups = config.number("ssm_state_size", "mamba_d_state"), config.number("n_groups", "mamba_n_groups")
    kernel = config.number("conv_kernel", "mamba_d_conv")
    inner = heads * dim
    shared = 2 * groups * state
    weights = (
        Weight(f"{prefix}.in_proj", 2 * inner + heads, hidden),
        # Groups that do not divide are repeated, so that every GPU has those that its heads need.
        Weight(f"{prefix}.in_proj", shared, hidden, Split.KV_HEADS, units=groups),
        Weight(f"{prefix}.conv1d", inner, kernel + 1, linear=False),
        Weight(f"{prefix}.conv1d", shared, kernel + 1, Split.KV_HEADS, units=groups, linear=False),
        Weight(f"{prefix}.out_proj", hidden, inner),
        Weight(f"{prefix}.norm", (inner if config.flag("mamba_rms_norm", True) else 0) + 4 * heads, linear=False),
        Weight("norm", norms * hidden, split=Split.REPLICATED, linear=False),
    )
    default = "float32" if str(config.get("model_type") or "") in FLOAT32_STATES else "auto"
    state_bytes = STATE_BYTES.get(str(config.get("mamba_ssm_cache_dtype") or default), 4)
    return Attention(weights, StateCache(heads * dim * state, state_bytes, inner, kernel - 1, groups, 2 * state))


def mamba1(config: Fields) -> Attention:
    """Mamba mixer of the first kind (Jamba), whose state has a row per channel."""
    hidden = config.number("hidden_size")
    inner = config.number("mamba_expand", "expand", default=2) * hidden
    state, kernel = config.number("mamba_d_state", "state_size"), config.number("mamba_d_conv", "conv_kernel")
    rank = config.number("mamba_dt_rank", "time_step_rank", default=-(-hidden // 16))
    weights = (
        Weight("mamba.in_proj", 2 * inner, hidden),
        Weight("mamba.conv1d", inner, kernel + 1, linear=False),
        Weight("mamba.x_proj", rank + 2 * state, inner),
        Weight("mamba.dt_proj", inner, rank),
        # A and D are kept in float32, twice a 16-bit element; the bias of dt is not.
        Weight("mamba.vectors", 2 * inner * (state + 1) + inner, linear=False),
        Weight("mamba.out_proj", hidden, inner),
        Weight("input_layernorm", 2 * hidden + rank + 2 * state, split=Split.REPLICATED, linear=False),
    )
    state_bytes = STATE_BYTES.get(str(config.get("mamba_ssm_cache_dtype") or "auto"), 4)
    return Attention(weights, StateCache(inner * state, state_bytes, inner, kernel - 1))


def short_convolution(config: Fields) -> Attention:
    """Gated short convolution (LFM2), which remembers the last inputs alone."""
    hidden, kernel = config.number("hidden_size"), config.number("conv_L_cache")
    width = config.number("conv_dim", default=hidden)
    weights = (
        Weight("conv.in_proj", 3 * width, hidden),
        Weight("conv.conv", width, kernel, linear=False),
        Weight("conv.out_proj", hidden, width),
        Weight("operator_norm", 2 * hidden, split=Split.REPLICATED, linear=False),
    )
    return Attention(weights, StateCache(0, 0, width, kernel - 1))


def lightning(config: Fields) -> Attention:
    """Lightning attention (MiniMax-Text-01): linear attention with a matrix state per head in the model's type."""
    hidden, heads, dim = config.number("hidden_size"), attention_heads(config), head_dim(config)
    width = heads * dim
    weights = (
        Weight("self_attn.qkv_proj", 3 * width, hidden),
        Weight("self_attn.output_gate", width, hidden),
        Weight("self_attn.out_proj", hidden, width),
        Weight("self_attn.norm", width, linear=False),
        Weight("input_layernorm", 2 * hidden, split=Split.REPLICATED, linear=False),
    )
    return Attention(weights, StateCache(heads * dim * dim, 0, 0, 0))
