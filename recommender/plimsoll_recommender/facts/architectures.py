"""Which architectures are read exactly, which in part, and what is assumed of the others."""

from __future__ import annotations

import re
from typing import Final

_IN_PART: Final = {
    "deepseek_v4": "compressed attention states",
    "deepseek_ref": "compressed attention states",
    "kimi_linear": "Kimi delta attention and latent experts",
    "minimax_m3": "sparse attention index",
}
"""Model types of which a part is approximated, and which."""

_KNOWN: Final = frozenset((
    "llama", "llama_text", "llama4", "llama4_text", "mistral", "mistral3", "mixtral", "ministral", "qwen", "qwen2",
    "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_text",
    "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text", "gemma",
    "gemma2", "gemma3", "gemma3_text", "gemma4", "gemma4_text", "phi", "phi3", "phi4mm", "phimoe", "deepseek_v2",
    "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_ref", "kimi_k2", "kimi_k25", "kimi_k3", "kimi_linear",
    "kimi_vl", "glm4", "glm4_moe", "glm_moe_dsa", "gpt_oss", "granite", "llava_next", "llava", "pixtral",
    "nemotron_h", "nemotron_nas", "deci_lm", "mimo", "mimo_v2_flash", "minimax_m2", "minimax_m3", "minimax_m3_vl",
    "minimax_m3_sparse", "step3p7", "step3p7_flash", "opt", "gpt2", "gpt_bigcode", "starcoder2", "stablelm", "olmo",
    "olmo2", "seed_oss", "smollm3", "yi", "internlm3", "ernie4_5", "ernie4_5_moe", "exaone4", "hunyuan_v1_dense",
    "cohere", "cohere2", "falcon", "falcon_h1", "gpt_neox", "granitemoe",
    "granitemoehybrid", "jamba",
))  # fmt: skip
"""Model types, as config.json names them, whose weights and caches are read from their own fields."""


def approximated(architecture: str, model_type: str) -> str:
    """What is approximated of a model, in words that `of MODEL are approximated` follows; empty when nothing is.

    An architecture that is not known is read as a decoder of attention and feed-forward layers with the usual fields.
    """
    if model_type in _IN_PART:
        return _IN_PART[model_type]
    names = {model_type.replace("-", "_"), _snake(architecture)} - {""}
    if names & _KNOWN:
        return ""
    return f"layers (architecture {architecture} is not known: read as a Llama-like decoder)"


def _snake(architecture: str) -> str:
    """`Qwen3MoeForCausalLM` as model types are written: `qwen3_moe`."""
    stem = re.sub(r"(For|LMHead|Model)[A-Z]?.*$", "", architecture)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()
