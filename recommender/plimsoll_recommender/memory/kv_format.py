"""Bytes of a cached token, by --kv-cache-dtype and kind of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.facts.layers import TokenCache
from plimsoll_recommender.facts.model import ModelFacts

KV_BYTES: Final = {
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "int8": 1.0,
    "fp8_per_token_head": 1.0,
    "int8_per_token_head": 1.0,
    "int4_per_token_head": 0.5,
    "nvfp4": 0.5625,
    "fp8_ds_mla": 1.0,
    "nvfp4_ds_mla": 0.5625,
}
"""Bytes per element by KV cache type; nvfp4 is 4 bits and an 8-bit scale per 16 elements."""

TOKEN_HEAD_SCALE_BYTES: Final = 4
"""One float32 per token, KV head and side (key, value) of the `_per_token_head` types (vLLM's Triton attention)."""

PACKED_LATENT_BYTES: Final = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
"""Bytes per token of DeepSeek's packed latents: for fp8 512 values, four float32 scales and 64 rotary values in 16 bit
(656 = 512 + 16 + 128), vLLM's MLAAttention.get_kv_cache_spec."""


@dataclass(frozen=True)
class KvFormat:
    """How keys and values are stored.

    Args:
        name: value of --kv-cache-dtype, resolved.
        bytes_per_element: bytes of one element, scales per block of elements included.
    """

    name: str
    bytes_per_element: float

    def bytes_per_token(self, cache: TokenCache, tensor_parallel_size: int) -> float:
        """Bytes that one GPU keeps per token of a layer."""
        if cache.kind == "mla":
            return self._latent_bytes(cache) + cache.extra_bytes
        heads = max(1, cache.kv_heads // tensor_parallel_size)
        scales = 2 * heads * TOKEN_HEAD_SCALE_BYTES if self.name.endswith("_per_token_head") else 0
        return heads * (cache.key_dim + cache.value_dim) * self.bytes_per_element + scales + cache.extra_bytes

    def _latent_bytes(self, cache: TokenCache) -> float:
        packed = PACKED_LATENT_BYTES.get(self.name)
        # Sparse MLA serves every fp8 type in the packed format (FlashMLA's sparse kernel).
        if packed is None and cache.extra_bytes and self.name.startswith("fp8"):
            packed = PACKED_LATENT_BYTES["fp8_ds_mla"]
        return packed if packed is not None else cache.key_dim * self.bytes_per_element


def kv_format(facts: ModelFacts, kv_cache_dtype: str) -> KvFormat:
    """The format for a --kv-cache-dtype; `auto` is the model's type, or what its checkpoint asks for."""
    name = kv_cache_dtype
    if name == "auto":
        asked = facts.quantization.kv_cache if facts.quantization else None
        if asked is None:
            return KvFormat(facts.dtype, float(facts.dtype_bytes))
        name = asked
    return KvFormat(name, KV_BYTES[name])


def kv_bytes_per_element(facts: ModelFacts, kv_cache_dtype: str) -> float:
    """Bytes per cached element for a --kv-cache-dtype, without per-token scales."""
    return kv_format(facts, kv_cache_dtype).bytes_per_element
