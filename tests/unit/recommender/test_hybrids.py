"""Hybrids of attention and recurrent layers: what each layer keeps, as vLLM 0.32's own model classes state it.

(tests/contract/test_engine_memory.py asks them; the bytes here are theirs for the default config.json of each type.)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from plimsoll_recommender import ModelFacts, UnknownModelError
from plimsoll_recommender.facts.layers import StateCache

SIZES = {"vocab_size": 32_000, "max_position_embeddings": 8192, "torch_dtype": "bfloat16"}

GRANITE: dict[str, Any] = {
    **SIZES, "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid", "hidden_size": 1536,
    "num_hidden_layers": 36, "num_attention_heads": 12, "num_key_value_heads": 4, "intermediate_size": 512,
    "shared_intermediate_size": 1024, "num_local_experts": 62, "num_experts_per_tok": 6, "mamba_n_heads": 48,
    "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_conv": 4,
    "layer_types": (["mamba"] * 5 + ["attention"]) * 6,
}  # fmt: skip

FALCON_H1: dict[str, Any] = {
    **SIZES, "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "vocab_size": 128_000,
    "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "mamba_d_ssm": 1024, "mamba_n_heads": 128, "mamba_d_head": 8, "mamba_n_groups": 1,
    "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_rms_norm": False,
}  # fmt: skip

JAMBA: dict[str, Any] = {
    **SIZES, "architectures": ["JambaForCausalLM"], "model_type": "jamba", "hidden_size": 4096,
    "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_experts": 16, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
    "attn_layer_period": 8, "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
    "mamba_dt_rank": 256,
}  # fmt: skip

FALCON: dict[str, Any] = {
    **SIZES, "architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 8192,
    "num_hidden_layers": 60, "num_attention_heads": 128, "num_kv_heads": 8, "multi_query": True,
    "new_decoder_architecture": True,
}  # fmt: skip

KEPT = [
    # Bytes of a state per sequence on one GPU of 1 and of 2, and of a token's keys and values.
    (GRANITE, (806_400, 403_968), 30, 2048, 6),
    (FALCON_H1, (533_504, 268_288), 32, 4096, 32),
    (JAMBA, (311_296, 155_648), 28, 4096, 4),
]


def kept(facts: ModelFacts, tensor: int) -> Counter[tuple[str, int]]:
    """How many layers keep how much: of a state per sequence, of keys and values per token."""
    found: Counter[tuple[str, int]] = Counter()
    for layer in facts.layers:
        if isinstance(layer.cache, StateCache):
            found["state", round(layer.cache.bytes_per_sequence(tensor, 2))] += 1
        elif layer.cache is not None:
            found["token", layer.cache.elements_per_token(tensor) * 2] += 1
    return found


@pytest.mark.parametrize(("config", "states", "recurrent", "token", "attending"), KEPT)
def test_every_layer_keeps_what_the_engine_says(
    config: dict[str, Any], states: tuple[int, int], recurrent: int, token: int, attending: int
) -> None:
    facts = ModelFacts.from_hf_config(config)
    assert facts.approximate == ""
    for tensor, state in zip((1, 2), states, strict=True):
        expected = {("state", state): recurrent, ("token", token // tensor): attending}
        assert kept(facts, tensor) == expected


def test_transformers_5_calls_mamba_linear_attention() -> None:
    renamed = {**GRANITE, "layer_types": (["linear_attention"] * 5 + ["full_attention"]) * 6}
    assert ModelFacts.from_hf_config(renamed).layers == ModelFacts.from_hf_config(GRANITE).layers


def test_falcons_newer_decoders_have_groups() -> None:
    facts = ModelFacts.from_hf_config(FALCON)
    assert kept(facts, 1) == {("token", 2 * 8 * 64 * 2): 60}
    older = ModelFacts.from_hf_config({**FALCON, "new_decoder_architecture": False})
    assert kept(older, 1) == {("token", 2 * 1 * 64 * 2): 60}


def test_models_without_attention_are_refused_in_one_line() -> None:
    mamba = {**SIZES, "architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "hidden_size": 4096,
             "num_hidden_layers": 64, "state_size": 128, "head_dim": 64}  # fmt: skip
    with pytest.raises(UnknownModelError, match="no attention") as refused:
        ModelFacts.from_hf_config(mamba)
    assert "\n" not in str(refused.value)
