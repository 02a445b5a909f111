"""What the ledger says of a model from its config.json, against vLLM's own model classes and KV cache layout.

The published architectures, with few layers: weights per GPU to the byte but for what is said, KV blocks exactly.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from plimsoll_recommender import EngineConfig, ModelFacts, accelerator
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import layout_of
from plimsoll_runtime import vllm_environment

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(1500)]

SCRIPT = Path(__file__).with_name("engine_model_shapes.py")
AVAILABLE = 20 * 2**30
SPLITS = (1, 2, 4)

WEIGHTS_ERROR = 2e-3
"""Relative: vectors of kilobytes are counted by rule of thumb (norms, biases, sinks); with four layers they show."""

PLAIN: dict[str, Any] = {"hidden_act": "silu", "torch_dtype": "bfloat16", "tie_word_embeddings": False}


def model(kind: str, architecture: str, **fields: Any) -> dict[str, Any]:
    """A config.json: fields that all share, and its own."""
    common = {"vocab_size": 32_000, "num_hidden_layers": 4, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5}
    return {**PLAIN, **common, "model_type": kind, "architectures": [architecture], **fields}


SIZES = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 8}
EXPERTS = {"num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
MAMBA2 = {"mamba_n_heads": 64, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_conv": 4,
          "mamba_expand": 2, "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_proj_bias": False}  # fmt: skip

MODELS = {
    "llama": model("llama", "LlamaForCausalLM", **SIZES),
    "multi-query (Falcon)": model(
        "falcon", "FalconForCausalLM", hidden_size=2048, num_attention_heads=32, num_kv_heads=8, multi_query=True,
        new_decoder_architecture=True, bias=False, parallel_attn=True, alibi=False,
    ),
    "fewer KV heads than GPUs": model("llama", "LlamaForCausalLM", **{**SIZES, "num_key_value_heads": 2}),
    "tied embeddings": model("qwen3", "Qwen3ForCausalLM", **SIZES, head_dim=128) | {"tie_word_embeddings": True},
    "experts": model("qwen3_moe", "Qwen3MoeForCausalLM", **SIZES, **EXPERTS, head_dim=128, decoder_sparse_step=1,
                     mlp_only_layers=[], norm_topk_prob=True),
    "experts (Mixtral)": model("mixtral", "MixtralForCausalLM", **SIZES, num_local_experts=8, num_experts_per_tok=2),
    "latent": model(
        "deepseek_v3", "DeepseekV3ForCausalLM", **{**SIZES, "num_key_value_heads": 32}, kv_lora_rank=512,
        q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, n_routed_experts=64,
        n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=768, first_k_dense_replace=1, n_group=8,
        topk_group=4, moe_layer_freq=1, scoring_func="sigmoid", topk_method="noaux_tc", norm_topk_prob=True,
        routed_scaling_factor=2.5, num_nextn_predict_layers=1,
    ),
    "sliding (Gemma 3)": model(
        "gemma3_text", "Gemma3ForCausalLM", **SIZES, head_dim=256, sliding_window=1024, num_hidden_layers=8,
        query_pre_attn_scalar=256, hidden_activation="gelu_pytorch_tanh",
        layer_types=["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"] * 2,
    ) | {"tie_word_embeddings": True, "num_hidden_layers": 8},
    "sliding (Cohere 2)": model(
        "cohere2", "Cohere2ForCausalLM", **SIZES, sliding_window=4096, layer_norm_eps=1e-5, logit_scale=0.25,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
    ) | {"tie_word_embeddings": True},
    "chunked (Llama 4)": model(
        "llama4_text", "Llama4ForCausalLM", **SIZES, head_dim=128, attention_chunk_size=4096, num_local_experts=8,
        num_experts_per_tok=1, intermediate_size_mlp=8192, interleave_moe_layer_step=1, use_qk_norm=True,
        no_rope_layers=[1, 1, 1, 0], attention_bias=False,
    ),
    "linear attention (Qwen3-Next)": model(
        "qwen3_next", "Qwen3NextForCausalLM", **SIZES, **EXPERTS, head_dim=128, linear_num_value_heads=32,
        linear_num_key_heads=16, linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4,
        shared_expert_intermediate_size=768, decoder_sparse_step=1, full_attention_interval=4,
    ),
    "Mamba beside attention (Granite 4)": model(
        "granitemoehybrid", "GraniteMoeHybridForCausalLM", **SIZES, **MAMBA2, num_local_experts=16,
        num_experts_per_tok=4, shared_intermediate_size=1024, position_embedding_type="nope", attention_multiplier=1.0,
        layer_types=["mamba", "mamba", "mamba", "attention"],
    ),
    "Mamba of the first kind (Jamba)": model(
        "jamba", "JambaForCausalLM", **SIZES, mamba_expand=2, mamba_d_state=16, mamba_d_conv=4, mamba_dt_rank=256,
        mamba_conv_bias=True, mamba_proj_bias=False, attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2,
        expert_layer_offset=1, num_experts=8, num_experts_per_tok=2,
    ),
    "Mamba inside every layer (Falcon-H1)": model(
        "falcon_h1", "FalconH1ForCausalLM", **SIZES, **{**MAMBA2, "mamba_d_head": 32}, mamba_d_ssm=2048,
        mamba_rms_norm=False, projectors_bias=False,
    ),
    "blocks in a pattern (Nemotron-H)": model(
        "nemotron_h", "NemotronHForCausalLM", **SIZES, hybrid_override_pattern="M-M*-M-*", mamba_num_heads=64,
        mamba_head_dim=64, n_groups=8, ssm_state_size=128, conv_kernel=4, expand=2, chunk_size=256, head_dim=128,
        mlp_hidden_act="relu2", layer_norm_epsilon=1e-5, use_conv_bias=True, mamba_proj_bias=False,
    ) | {"num_hidden_layers": 8},
}  # fmt: skip

CASES = [(name, tensor) for name in MODELS for tensor in SPLITS]


@cache
def answers() -> dict[tuple[str, int], dict[str, Any]]:
    """vLLM's answers to all cases, from one process."""
    environment = vllm_environment.ensure()
    asked = [{"config": MODELS[name], "tensor": tensor, "available": AVAILABLE} for name, tensor in CASES]
    variables = {**environment.variables(os.environ), "VLLM_TARGET_DEVICE": "cpu", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        ["nice", "-n", "10", str(environment.python), str(SCRIPT)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=variables,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"weights"')]
    assert len(lines) == len(CASES), f"{len(lines)} of {len(CASES)} answered: {done.stderr[-3000:]}"
    return dict(zip(CASES, lines, strict=True))


def held(facts: ModelFacts, tensor: int) -> float:
    """Bytes of the weights on one GPU before the allocator rounds them, and before MLA's second copy is made."""
    layers = [weight for layer in facts.layers for weight in layer.weights if not weight.module.endswith("absorbed")]
    ends = [facts.embedding, *(part for part in (facts.head, facts.final_norm) if part is not None)]
    return sum(weight.bytes_per_gpu(tensor) for weight in (*layers, *ends))


@pytest.mark.parametrize(("name", "tensor"), CASES)
def test_weights_and_blocks_are_the_engines(name: str, tensor: int) -> None:
    engine = answers()[name, tensor]
    facts = ModelFacts.from_hf_config(MODELS[name])
    assert facts.approximate == ""
    assert held(facts, tensor) == pytest.approx(engine["weights"], rel=WEIGHTS_ERROR)
    asked = EngineConfig(tensor_parallel_size=tensor, max_num_batched_tokens=8192, enable_prefix_caching=False)
    layout = layout_of(facts, resolve(asked, facts, accelerator("H100")))
    assert AVAILABLE // layout.bytes_per_block == engine["blocks"]
    assert layout.group_count == len(engine["layers_per_group"])
    assert sorted(group.block_size for group in layout.groups for _ in range(group.count)) == sorted(
        engine["tokens_per_block"]
    )
