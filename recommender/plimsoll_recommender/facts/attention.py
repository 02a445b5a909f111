"""Attention layers of the known architectures: their weights and what they keep per sequence.

Shapes follow the models' published definitions; what is split or replicated follows vLLM's layers
(QKVParallelLinear, RowParallelLinear, ReplicatedLinear).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.fields import Fields
from plimsoll_recommender.facts.layers import Split, StateCache, TokenCache, Weight

INDEXER_CACHE_OVERHEAD: Final = 4
"""Bytes per token beside the fp8 key of a sparse indexer: its scale (DeepSeek-V3.2 in vLLM: 128 + 4)."""

SANDWICHED: Final = ("gemma2", "gemma3", "gemma4")
"""Model types with a norm after attention and feed-forward as well as before."""

PARALLEL: Final = ("phi", "cohere", "falcon")
"""Model types whose attention and feed-forward share one norm."""

LAYER_NORMED: Final = ("phi", "stablelm", "starcoder2", "gpt2", "opt", "gpt_bigcode")
"""Model types whose norms have biases."""

NORMED_HEADS: Final = ("qwen3", "gemma3", "gemma4", "exaone4", "hunyuan_v1")
"""Model types that normalise every head's query and key."""

NORMED_WIDTH: Final = ("olmo2", "minimax")
"""Model types that normalise query and key over all heads."""

BIASED_QKV: Final = ("qwen2",)
BIASED_ALL: Final = ("gpt_oss", "phi", "opt", "gpt2", "starcoder2")
"""Model types whose attention has biases without saying so: of query, key and value, or of the output too."""

UNBIASED_OUTPUT: Final = ("glm4", "seed_oss")
"""Model types whose `attention_bias` leaves out the output."""

GATED: Final = ("qwen3_next", "qwen3_5")
"""Model types whose query projection has a gate beside every query unless config.json says otherwise."""


@dataclass(frozen=True)
class Attention:
    """One attention (or recurrent) block: weights, cache and the sizes of its attention product.

    Args:
        weights: its matrices.
        cache: what it keeps.
        heads, query_dim, output_dim: sizes of the attention product (0 for recurrent blocks).
        limit: most tokens that one query attends to; None is all.
    """

    weights: tuple[Weight, ...]
    cache: TokenCache | StateCache | None
    heads: int = 0
    query_dim: int = 0
    output_dim: int = 0
    limit: int | None = None


def head_dim(config: Fields) -> int:
    """Elements of one attention head."""
    stated = config.get("head_dim", "attention_head_dim")
    if stated is not None:
        return config.number("head_dim", "attention_head_dim")
    hidden, heads = config.number("hidden_size", "n_embd", "d_model"), attention_heads(config)
    if hidden % heads:
        raise RecommenderError(
            f"model {config.name}: hidden_size ({hidden}) is not a multiple of num_attention_heads ({heads}): "
            "add head_dim to config.json"
        )
    return hidden // heads


def attention_heads(config: Fields) -> int:
    """Query heads."""
    return config.number("num_attention_heads", "n_head", "num_heads", "n_heads")


def kv_heads(config: Fields) -> int:
    """KV heads; as many as query heads when not stated, one with multi-query attention.

    Falcon's newer decoders have groups whatever `multi_query` says.
    """
    if config.flag("multi_query") and not config.flag("new_decoder_architecture"):
        return 1
    return config.number("num_key_value_heads", "num_kv_heads", "n_head_kv", default=attention_heads(config))


def grouped(
    config: Fields,
    *,
    window: int | None = None,
    chunked: bool = False,
    heads: int | None = None,
    groups: int | None = None,
    key_dim: int | None = None,
    value_dim: int | None = None,
    keys_are_values: bool = False,
) -> Attention:
    """Multi-head, grouped-query or multi-query attention.

    Args:
        config: the model's settings.
        window: tokens of a sliding window or chunk; None attends to everything.
        chunked: the window is a chunk (Llama 4) instead of sliding.
        heads, groups, key_dim, value_dim: query heads, KV heads and head sizes where they differ from the model's.
        keys_are_values: one projection serves as key and value (Gemma 4); both are cached.
    """
    hidden = config.number("hidden_size", "n_embd", "d_model")
    query_heads = heads or attention_heads(config)
    kv = groups or kv_heads(config)
    key = key_dim or head_dim(config)
    value = value_dim or (config.number("v_head_dim") if config.get("v_head_dim") and key_dim is None else key)
    always = str(config.get("model_type") or "").startswith(GATED)
    gate = 2 if config.flag("attn_output_gate", always) or config.flag("attention_output_gate") else 1
    weights = [
        Weight("self_attn.q_proj", query_heads * key * gate, hidden, fused="qkv_proj"),
        Weight("self_attn.k_proj", kv * key, hidden, Split.KV_HEADS, units=kv, fused="qkv_proj"),
        Weight("self_attn.o_proj", hidden, query_heads * value),
    ]
    if not keys_are_values:
        weights.append(Weight("self_attn.v_proj", kv * value, hidden, Split.KV_HEADS, units=kv, fused="qkv_proj"))
    vectors = _norms(config, hidden, key, query_heads * key, kv * key)
    vectors += _biases(config, hidden, query_heads * key, kv * (key + value))
    weights.append(Weight("input_layernorm", vectors, split=Split.REPLICATED, linear=False))
    kind = "full" if window is None else "chunked" if chunked else "sliding"
    sparse = config.section("sparse_attention_config") or {}
    indexer = int(sparse.get("index_head_dim") or 0)
    cache = TokenCache(kind, kv, key, value, window, extra_bytes=indexer)  # type: ignore[arg-type]
    return Attention(tuple(weights), cache, query_heads, key, value, window)


def _norms(config: Fields, hidden: int, key: int, queries: int, keys: int) -> int:
    """Elements of the norms of one layer: before attention and feed-forward, and those of query and key."""
    family = str(config.get("model_type") or "")
    plain = family == "phi" or family.startswith(PARALLEL[1:])
    count = 4 if family.startswith(SANDWICHED) else 1 if plain else 2
    if family in LAYER_NORMED:
        count *= 2
    if family.startswith(NORMED_HEADS) or (family.startswith("glm4") and config.flag("use_qk_norm")):
        return count * hidden + 2 * key
    return count * hidden + (queries + keys if family.startswith(NORMED_WIDTH) else 0)


def _biases(config: Fields, hidden: int, queries: int, keys_and_values: int) -> int:
    """Elements of the biases of attention: of query, key and value in Qwen 2, of the output too where stated."""
    family = str(config.get("model_type") or "")
    if family in BIASED_ALL or config.flag("attention_bias"):
        return queries + keys_and_values + (0 if family.startswith(UNBIASED_OUTPUT) else hidden)
    return queries + keys_and_values if family.startswith(BIASED_QKV) else 0


def latent(config: Fields) -> Attention:
    """Multi-head latent attention (DeepSeek-V2 and later), with a sparse indexer where configured."""
    hidden = config.number("hidden_size")
    heads = attention_heads(config)
    rank = config.number("kv_lora_rank")
    rope = config.number("qk_rope_head_dim")
    nope = config.number("qk_nope_head_dim")
    value = config.number("v_head_dim")
    query_rank = config.number("q_lora_rank", default=0, least=0)
    weights = [
        Weight("self_attn.kv_a_proj_with_mqa", rank + rope, hidden, Split.REPLICATED),
        Weight("self_attn.kv_b_proj", heads * (nope + value), rank),
        # vLLM keeps the two halves of kv_b_proj once more, unquantised, to absorb them into query and output.
        Weight("self_attn.absorbed", heads * (nope + value), rank, linear=False),
        Weight("self_attn.o_proj", hidden, heads * value),
        Weight("input_layernorm", 2 * hidden + rank + query_rank, split=Split.REPLICATED, linear=False),
    ]
    if query_rank:
        weights.append(Weight("self_attn.q_a_proj", query_rank, hidden, Split.REPLICATED))
        weights.append(Weight("self_attn.q_b_proj", heads * (nope + rope), query_rank))
    else:
        weights.append(Weight("self_attn.q_proj", heads * (nope + rope), hidden))
    if config.flag("mla_use_output_gate"):
        weights.append(Weight("self_attn.g_proj", heads * value, hidden))
    index_heads = config.number("index_n_heads", default=0, least=0)
    index_dim = config.number("index_head_dim", default=0, least=0)
    if index_heads:
        weights.append(Weight("self_attn.indexer.wq_b", index_heads * index_dim, query_rank, Split.REPLICATED))
        weights.append(Weight("self_attn.indexer.wk", index_dim, hidden, Split.REPLICATED))
        weights.append(Weight("self_attn.indexer.weights_proj", index_heads, hidden, Split.REPLICATED))
    extra = index_dim + INDEXER_CACHE_OVERHEAD if index_heads else 0
    limit = config.number("index_topk") if index_heads else None
    cache = TokenCache("mla", 1, rank + rope, 0, extra_bytes=extra)
    return Attention(tuple(weights), cache, heads, nope + rope, value, limit)


def compressed(config: Fields, ratio: int) -> Attention:
    """DeepSeek-V4 attention: a sliding window beside a history compressed `ratio` to one (0: window only).

    The compressed states and the indexer's keys are approximated by one latent per `ratio` tokens.
    """
    hidden, heads, dim = config.number("hidden_size"), attention_heads(config), config.number("head_dim")
    query_rank = config.number("q_lora_rank")
    output_rank, groups = config.number("o_lora_rank"), config.number("o_groups")
    weights = [
        Weight("self_attn.wq_a", query_rank, hidden, Split.REPLICATED),
        Weight("self_attn.wq_b", heads * dim, query_rank),
        Weight("self_attn.wkv", dim, hidden, Split.REPLICATED),
        Weight("self_attn.wo_a", groups * output_rank, heads * dim // groups),
        Weight("self_attn.wo_b", hidden, groups * output_rank),
        Weight("input_layernorm", 2 * hidden, split=Split.REPLICATED, linear=False),
    ]
    window = config.number("sliding_window")
    limit = window
    if ratio:
        weights.append(Weight("self_attn.compressor", 2 * dim, hidden, Split.REPLICATED))
        limit = window + config.number("index_topk")
        if ratio <= config.number("index_n_heads"):
            weights.append(
                Weight(
                    "self_attn.indexer",
                    config.number("index_n_heads") * config.number("index_head_dim"),
                    query_rank,
                    Split.REPLICATED,
                )
            )
        cache = TokenCache("mla", 1, max(1, dim // ratio), 0)
    else:
        cache = TokenCache("sliding", 1, dim, 0, window)
    return Attention(tuple(weights), cache, heads, dim, dim, limit)
