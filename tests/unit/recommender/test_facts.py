"""Model facts from config.json, and the catalogue."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from plimsoll_recommender import ModelFacts, RecommenderError, UnknownAcceleratorError, UnknownModelError, accelerator
from plimsoll_recommender.catalogue import accelerators, models

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        # Parameter counts as the models' cards state them; active ones without the embedding.
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03, 7.5),
        ("Qwen/Qwen3-235B-A22B", 235.1, 22),
        ("deepseek-ai/DeepSeek-V3", 671.0, 37),
        ("moonshotai/Kimi-K2-Instruct", 1026, 32),
        ("openai/gpt-oss-120b", 116.8, 5.1),
        ("mistralai/Mixtral-8x7B-v0.1", 46.7, 12.9),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 107.8, 16.1),
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", 49.9, 49),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31.6, 3.2),
        ("google/gemma-2-2b-it", 2.61, 2.6),
        ("microsoft/phi-2", 2.78, 2.6),
        ("Qwen/Qwen2.5-0.5B", 0.494, 0.49),
    ],
)
def test_parameters_are_the_published_ones(name: str, billions: float, active: float) -> None:
    facts = ModelFacts.load(name)
    assert facts.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert facts.active_parameters / 1e9 == pytest.approx(active, rel=0.06)


@pytest.mark.parametrize("name", models.model_names())
def test_every_catalogue_model_is_understood(name: str) -> None:
    facts = ModelFacts.load(name)
    assert facts.checkpoint_bytes > 0
    assert facts.num_attention_heads > 0
    assert any(layer.cache is not None for layer in facts.layers)


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        # Bytes of the published safetensors files.
        ("nvidia/Llama-3.1-70B-Instruct-FP8", 67.7),
        ("openai/gpt-oss-20b", 12.8),
        ("nvidia/Qwen3-235B-A22B-NVFP4", 124.9),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", 5.3),
    ],
)
def test_quantised_checkpoints_keep_ignored_layers_wide(name: str, gib: float) -> None:
    assert ModelFacts.load(name).checkpoint_bytes / 1024**3 == pytest.approx(gib, rel=0.02)


def test_load_time_quantization_leaves_the_ends_alone() -> None:
    facts = ModelFacts.from_hf_config(LLAMA)
    # 8.49 GiB logged by vLLM 0.19 with --quantization fp8, rotary tables included.
    assert (facts.as_loaded(quantization="fp8").checkpoint_bytes + facts.rotary_bytes) / 1024**3 == pytest.approx(
        8.49, abs=0.02
    )


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in LLAMA.items() if name != key}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (_without("hidden_size"), "hidden_size"),
        (_without("num_hidden_layers"), "num_hidden_layers"),
        (_without("vocab_size"), "vocab_size"),
        (LLAMA | {"num_attention_heads": 0}, "num_attention_heads"),
        (LLAMA | {"num_attention_heads": 33}, "head_dim"),
        (LLAMA | {"num_key_value_heads": -1}, "num_key_value_heads"),
        (LLAMA | {"vocab_size": "many"}, "vocab_size"),
        (LLAMA | {"max_position_embeddings": 1e30}, "max_position_embeddings"),
        (LLAMA | {"torch_dtype": "int3"}, "torch_dtype"),
        (LLAMA | {"quantization_config": {"quant_method": "magic"}}, "quant_method"),
        (LLAMA | {"is_encoder_decoder": True}, "encoder-decoder"),
        ([], "object"),
        ({}, "hidden_size"),
    ],
)
def test_bad_configs_are_refused_in_one_line(config: Any, named: str) -> None:
    with pytest.raises(RecommenderError) as refused:
        ModelFacts.from_hf_config(config)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_directory_with_safetensors_gives_exact_bytes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 16_000_000_000]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    facts = ModelFacts.load(tmp_path)
    assert facts.weight_bytes == 16_000_000_000
    assert facts == ModelFacts.load(tmp_path / "config.json")


def test_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RecommenderError, match="cannot be read as JSON"):
        ModelFacts.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "model.safetensors").write_bytes(b"\x01")
    with pytest.raises(RecommenderError, match="not a safetensors file"):
        ModelFacts.load(tmp_path)


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(UnknownModelError, match="did you mean meta-llama"):
        ModelFacts.load("meta-llama/Llama-3.1-8B-Instruc")
    with pytest.raises(UnknownAcceleratorError, match="did you mean"):
        accelerator("H1000")


@pytest.mark.parametrize(
    ("alias", "product"),
    [
        ("H100", "NVIDIA-H100-80GB-HBM3"),
        ("h100_sxm", "NVIDIA-H100-80GB-HBM3"),
        ("A100-40GB", "NVIDIA-A100-SXM4-40GB"),
        ("nvidia-l4", "NVIDIA-L4"),
        ("NVIDIA-L4-SHARED", "NVIDIA-L4"),
        ("RTX 4090", "NVIDIA-GeForce-RTX-4090"),
        ("5090", "NVIDIA-GeForce-RTX-5090"),
        ("A6000", "NVIDIA-RTX-A6000"),
        ("PRO 6000", "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"),
        ("V100", "Tesla-V100-SXM2-16GB"),
        ("T4", "Tesla-T4"),
        ("MI300X", "AMD_Instinct_MI300X_OAM"),
        ("MI355X", "AMD_Instinct_MI355X_OAM"),
        ("b300", "NVIDIA-B300-SXM6-AC"),
    ],
)
def test_accelerators_have_the_names_people_use(alias: str, product: str) -> None:
    assert accelerator(alias).product == product


def test_every_product_is_found_by_its_own_label() -> None:
    for item in accelerators.catalogue():
        assert accelerator(item.product) is item
        assert item.memory_bandwidth > 1e11
        assert item.flops_16bit > 1e13


@pytest.mark.parametrize("value", [0, -1, "many", float("nan"), True, 10**400])
def test_bytes_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(RecommenderError, match="weight_bytes must be above zero"):
        ModelFacts.from_hf_config(LLAMA, value)


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        # As vLLM derives the longest context: a factor lengthens it, YaRN from its original length.
        ({"rope_type": "linear", "factor": 4.0}, 524_288),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}, 131_072),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 131_072),
        ({"type": "longrope", "factor": 32.0}, 131_072),
        (None, 131_072),
    ],
)
def test_longest_context(scaling: dict[str, Any] | None, longest: int) -> None:
    for name in ("rope_scaling", "rope_parameters"):
        assert ModelFacts.from_hf_config(LLAMA | {name: scaling}).max_position_embeddings == longest


def test_absurd_layer_counts_are_refused_at_once() -> None:
    with pytest.raises(RecommenderError, match="num_hidden_layers is 10000000000"):
        ModelFacts.from_hf_config(LLAMA | {"num_hidden_layers": 10**10})
