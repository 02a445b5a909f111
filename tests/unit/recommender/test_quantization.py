"""Bits per weight of every scheme, and which modules they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import EngineConfig, ModelFacts, RecommenderError, accelerator, memory_ledger
from plimsoll_recommender.facts.module_names import Modules, canonical_module
from plimsoll_recommender.facts.quantization import quantization_of, with_quantization

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

LINEAR = ("self_attn.q_proj", "mlp.down_proj")


def compressed(weights: dict[str, Any], activations: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"]} | more


def bits(settings_: dict[str, Any], module: str = "layers.0.self_attn.q_proj") -> float:
    read = quantization_of({"quantization_config": settings_})
    assert read is not None
    return read.bits_for(module, 16.0)


@pytest.mark.parametrize(
    ("settings_", "label", "expected", "compute"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 8.002, "fp8"),
        ({"quant_method": "fp8"}, "fp8", 8.004, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8", 8.004, "fp8"),
        (compressed({"num_bits": 8, "type": "float"}, {"num_bits": 8, "type": "float", "dynamic": True}), "fp8", 8.004,
         "fp8"),
        (compressed({"num_bits": 8, "type": "float"}, {"num_bits": 8, "type": "float", "dynamic": False}), "fp8", 8.004,
         "fp8"),
        (compressed({"num_bits": 8, "type": "int"}, {"num_bits": 8, "type": "int"}), "w8a8", 8.004, "int8"),
        (compressed({"num_bits": 4, "type": "int", "group_size": 128}), "w4a16", 4.125, "16bit"),
        (compressed({"num_bits": 4, "type": "int", "group_size": 32}), "w4a16", 4.5, "16bit"),
        # A zero point of four bits per group beside the scale; activation order has two indices per input.
        (compressed({"num_bits": 4, "type": "int", "group_size": 128, "symmetric": False}), "w4a16", 4.156, "16bit"),
        (compressed({"num_bits": 4, "type": "int", "group_size": 128, "actorder": "group"}), "w4a16", 4.141, "16bit"),
        (compressed({"num_bits": 4, "type": "float", "group_size": 16}, {"num_bits": 4}), "nvfp4", 4.5, "fp4"),
        (compressed({"num_bits": 4, "type": "float", "group_size": 32}, {"num_bits": 4}), "mxfp4", 4.25, "fp4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "w4a16", 4.156, "16bit"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "w4a16", 4.156, "16bit"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "w4a16", 4.172, "16bit"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "w8a16", 8.004, "16bit"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 32}, "w4a16", 4.625, "16bit"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", 4.5, "16bit"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4.5, "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 8.004, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, "fp8_pb_wo", 8.002, "fp8"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}, "mxfp4",
         4.25, "mxfp4"),
    ],
)  # fmt: skip
def test_bits_of_every_scheme(settings_: dict[str, Any], label: str, expected: float, compute: str) -> None:
    read = quantization_of({"quantization_config": settings_})
    assert read is not None
    assert (read.label, read.compute) == (label, compute)
    for module in LINEAR:
        assert read.bits_for(f"layers.7.{module}", 16.0) == pytest.approx(expected, abs=0.0006)


def test_mxfp4_of_gpt_oss_is_of_experts_only() -> None:
    settings_ = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    assert bits(settings_, "layers.0.mlp.experts.0.up_proj") == 4.25
    assert bits(settings_, "layers.0.self_attn.q_proj") == 16


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        (["lm_head"], ["lm_head"], ["layers.0.mlp.up_proj"]),
        (["model.layers.3.mlp"], ["layers.3.mlp.up_proj"], ["layers.31.mlp.up_proj", "layers.3.self_attn.q_proj"]),
        (["gate"], ["layers.3.mlp.gate"], ["layers.3.mlp.gate_proj", "layers.3.mlp.up_proj"]),
        (["model.layers.*.self_attn*"], ["layers.9.self_attn.q_proj"], ["layers.9.mlp.up_proj"]),
        (["*.mlp.gate"], ["layers.9.mlp.gate"], ["layers.9.mlp.gate_proj"]),
        (["model.layers.1*"], ["layers.1.mlp.up_proj", "layers.12.mlp.up_proj"], ["layers.2.mlp.up_proj"]),
        (["re:.*self_attn.*"], ["layers.0.self_attn.o_proj"], ["layers.0.mlp.up_proj"]),
        (["re:^model\\.layers\\.(0|1)\\..*"], ["layers.1.mlp.up_proj"], ["layers.2.mlp.up_proj", "layers.10.mlp.gate"]),
        (["re:.*mlp.gate$"], ["layers.4.mlp.gate"], ["layers.4.mlp.gate_proj"]),
        (["language_model.model.layers.0.block_sparse_moe.gate"], ["layers.0.mlp.gate"], ["layers.1.mlp.gate"]),
    ],
)
def test_ignore_lists_match_as_the_engine_matches(patterns: list[str], inside: list[str], outside: list[str]) -> None:
    modules = Modules(patterns)
    assert all(module in modules for module in inside)
    assert not any(module in modules for module in outside)


def test_ignored_layers_are_wide_in_the_ledger() -> None:
    """Attention left out of fp8 keeps 16 bits: 1.34 billion elements, one byte each."""
    plain = ModelFacts.from_hf_config(LLAMA | {"quantization_config": {"quant_method": "fp8"}})
    ignoring = {"quant_method": "fp8", "modules_to_not_convert": ["re:.*self_attn.*"]}
    left = ModelFacts.from_hf_config(LLAMA | {"quantization_config": ignoring})
    attention = 32 * 4096 * (2 * 4096 + 2 * 1024)
    assert left.checkpoint_bytes - plain.checkpoint_bytes == pytest.approx(attention, rel=0.001)
    config = EngineConfig(max_model_len=8192)
    wider, lighter = (memory_ledger(facts, accelerator("H100"), config).weights_gib for facts in (left, plain))
    assert wider - lighter == pytest.approx(attention / 1024**3, rel=0.03)


def test_groups_of_different_schemes() -> None:
    """Experts in nvfp4, attention in fp8, as two groups."""
    groups = {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"},
                    "input_activations": {"num_bits": 8}},
        "group_1": {"targets": ["re:.*experts.*"], "weights": {"num_bits": 4, "type": "float", "group_size": 16},
                    "input_activations": {"num_bits": 4}},
    }  # fmt: skip
    settings_ = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["re:.*mlp.gate$"]}
    assert bits(settings_) == pytest.approx(8.004, abs=0.001)
    assert bits(settings_, "layers.0.mlp.experts.0.up_proj") == 4.5
    assert bits(settings_, "layers.0.mlp.gate") == 16


def test_rules_of_gptq_and_auto_round() -> None:
    dynamic = {"-:.*down_proj.*": {}, "+:.*up_proj.*": {"bits": 8, "group_size": 64}}
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": dynamic}
    assert bits(gptq, "layers.1.mlp.down_proj") == 16
    assert bits(gptq, "layers.1.mlp.up_proj") == 8 + 24 / 64
    assert bits(gptq, "layers.1.mlp.gate_proj") == pytest.approx(4.156, abs=0.001)
    only = {"quant_method": "gptq", "bits": 4, "modules_in_block_to_quantize": [["self_attn.q_proj"], ["mlp.up_proj"]]}
    assert bits(only, "layers.1.mlp.down_proj") == 16
    rounded = {"quant_method": "auto-round", "bits": 4, "group_size": 128,
               "extra_config": {"model.layers.0.mlp.up_proj": {"bits": 16}}}  # fmt: skip
    assert bits(rounded, "layers.0.mlp.up_proj") == 16
    assert bits(rounded, "layers.1.mlp.up_proj") < 5


def test_mixed_precision_of_modelopt() -> None:
    layers = {"model.layers.0.mlp.experts.0.up_proj": {"quant_algo": "NVFP4"},
              "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"}}  # fmt: skip
    settings_ = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers, "kv_cache_quant_algo": "FP8"}
    assert bits(settings_, "layers.0.mlp.experts.0.down_proj") == 4.5
    assert bits(settings_) == pytest.approx(8.004, abs=0.001)
    assert bits(settings_, "layers.0.self_attn.o_proj") == 16


@pytest.mark.parametrize(("asked", "kind"), [("FP8", "fp8"), ("NVFP4", "nvfp4"), (None, None)])
def test_the_checkpoint_asks_for_a_cache_type(asked: str | None, kind: str | None) -> None:
    read = quantization_of({"quantization_config": {"quant_algo": "NVFP4", "kv_cache_quant_algo": asked}})
    assert read is not None
    assert read.kv_cache == kind


def test_hf_quant_config_counts_where_config_says_nothing() -> None:
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    assert quantization_of(with_quantization(LLAMA, beside)) is not None
    own = LLAMA | {"quantization_config": {"quant_method": "awq"}}
    read = quantization_of(with_quantization(own, beside))
    assert read is not None
    assert read.label == "w4a16"
    assert quantization_of(with_quantization(LLAMA, None)) is None


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"quant_method": "magic"}, "quant_method"),
        ({"quant_method": "gguf"}, "GGUF"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "config_groups"),
        ({"quant_algo": "FP3"}, "quant_algo"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int2"}}}, "Quark"),
        ({"quant_method": "fp8", "ignored_layers": ["re:("]}, "regular expression"),
        ({"quant_method": "awq", "bits": "four"}, "unexpected form"),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(settings_: dict[str, Any], says: str) -> None:
    with pytest.raises(RecommenderError, match=says) as refused:
        ModelFacts.from_hf_config(LLAMA | {"quantization_config": settings_})
    assert "\n" not in str(refused.value)


NAMES = st.lists(st.sampled_from(["layers", "3", "mlp", "experts", "0", "gate_proj", "self_attn"]), min_size=1)


@given(parts=NAMES)
@settings(max_examples=100, deadline=None)
def test_every_module_is_in_a_set_of_its_own_name(parts: list[str]) -> None:
    name = ".".join(parts)
    canonical = canonical_module(name)
    assert canonical in Modules([name])
    assert f"model.{name}" in Modules([name])
    assert canonical not in Modules([f"{name}.other"])
