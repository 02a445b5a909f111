"""Exact weights from the headers of a checkpoint: what is read, how it is divided, what is refused."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plimsoll_recommender import EngineConfig, ModelFacts, RecommenderError, accelerator, memory_ledger
from plimsoll_recommender.facts.layers import Weight
from plimsoll_recommender.facts.model import GIB
from plimsoll_recommender.facts.safetensors import Checkpoint, StoredTensor, checkpoint_of, read_checkpoint
from plimsoll_recommender.memory.weights import stage_weight_bytes

Shapes = dict[str, tuple[str, tuple[int, ...]]]

TINY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I32": 4}


def write(file: Path, tensors: Shapes) -> None:
    entries, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for length in shape:
            size *= length
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def llama_layer(place: int, dtype: str = "BF16") -> Shapes:
    prefix = f"model.layers.{place}."
    return {
        f"{prefix}self_attn.q_proj.weight": (dtype, (64, 64)),
        f"{prefix}self_attn.k_proj.weight": (dtype, (32, 64)),
        f"{prefix}self_attn.v_proj.weight": (dtype, (32, 64)),
        f"{prefix}self_attn.o_proj.weight": (dtype, (64, 64)),
        f"{prefix}mlp.gate_proj.weight": (dtype, (128, 64)),
        f"{prefix}mlp.up_proj.weight": (dtype, (128, 64)),
        f"{prefix}mlp.down_proj.weight": (dtype, (64, 128)),
        f"{prefix}input_layernorm.weight": ("BF16", (64,)),
        f"{prefix}post_attention_layernorm.weight": ("BF16", (64,)),
    }


ENDS: Shapes = {
    "model.embed_tokens.weight": ("BF16", (256, 64)),
    "model.norm.weight": ("BF16", (64,)),
    "lm_head.weight": ("BF16", (256, 64)),
}


def directory(path: Path, *shards: Shapes, config: dict[str, Any] | None = None) -> Path:
    (path / "config.json").write_text(json.dumps(config or TINY))
    if len(shards) == 1:
        write(path / "model.safetensors", shards[0])
        return path
    placed: dict[str, str] = {}
    for number, shard in enumerate(shards):
        write(path / f"model-{number}.safetensors", shard)
        placed |= dict.fromkeys(shard, f"model-{number}.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def whole() -> Shapes:
    return {name: shape for place in range(4) for name, shape in llama_layer(place).items()} | ENDS


def held(facts: ModelFacts, tensor: int = 1, pipeline: int = 1, stage: int = 0, **settings: Any) -> float:
    config = EngineConfig(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, **settings)
    return stage_weight_bytes(facts, config, stage) - facts.rotary_bytes


@pytest.mark.parametrize("shards", [1, 2])
def test_tensors_and_config_agree_on_every_gpu(tmp_path: Path, shards: int) -> None:
    tensors = whole()
    middle = len(tensors) // 2
    parts = [tensors] if shards == 1 else [dict(list(tensors.items())[:middle]), dict(list(tensors.items())[middle:])]
    facts = ModelFacts.load(directory(tmp_path, *parts))
    described = ModelFacts.from_hf_config(TINY)
    assert facts.checkpoint is not None
    assert facts.weight_bytes == described.checkpoint_bytes
    for tensor in (1, 2, 4):
        for pipeline in (1, 2, 4):
            for stage in range(pipeline):
                assert held(facts, tensor, pipeline, stage) == held(described, tensor, pipeline, stage)


def test_mixed_precision_is_counted_where_it_is(tmp_path: Path) -> None:
    """Two of four layers in fp8: a stage with them is lighter, which a total could not say."""
    tensors = ENDS | llama_layer(0, "F8_E4M3") | llama_layer(1, "F8_E4M3") | llama_layer(2) | llama_layer(3)
    facts = ModelFacts.load(directory(tmp_path, tensors))
    layer = sum(weight.elements for weight in facts.layers[0].weights if weight.columns > 1)
    first, last = held(facts, pipeline=2, stage=0), held(facts, pipeline=2, stage=1)
    assert last - first == 2 * layer + 2 * 64
    # Control: as a total, both halves get the same share.
    total = replace(facts, checkpoint=None)
    assert held(total, pipeline=2, stage=1) - held(total, pipeline=2, stage=0) < 2 * 64 + 1


def test_kv_heads_are_repeated_beyond_their_number(tmp_path: Path) -> None:
    facts = ModelFacts.load(directory(tmp_path, whole()))
    four = held(facts, 4)
    # Four GPUs, two KV heads: each keeps one of them whole, 16 rows of 64 for key and value, in 4 layers.
    evenly = facts.checkpoint_bytes - 4 * 128 * 2 - 64 * 2
    assert four == evenly / 4 + 4 * 128 * 2 + 64 * 2 + 4 * 2 * (16 - 8) * 64 * 2


def test_copies_and_drafters_are_not_loaded(tmp_path: Path) -> None:
    tied = TINY | {"tie_word_embeddings": True, "num_nextn_predict_layers": 1}
    (tmp_path / "plain").mkdir()
    plain = whole()
    del plain["lm_head.weight"]
    (tmp_path / "full").mkdir()
    drafter = {name.replace("layers.0.", "layers.4."): shape for name, shape in llama_layer(0).items()}
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (8,)), "mtp.fc.weight": ("BF16", (64, 128))}
    full = whole() | drafter | extra
    one = ModelFacts.load(directory(tmp_path / "plain", plain, config=tied))
    other = ModelFacts.load(directory(tmp_path / "full", full, config=tied))
    assert held(one) == held(other)
    assert one.checkpoint_bytes < other.checkpoint_bytes


def test_float32_matrices_are_loaded_in_the_models_type(tmp_path: Path) -> None:
    wide = {name: ("F32" if len(shape[1]) > 1 else shape[0], shape[1]) for name, shape in whole().items()}
    (tmp_path / "wide").mkdir()
    (tmp_path / "plain").mkdir()
    facts = ModelFacts.load(directory(tmp_path / "wide", wide))
    plain = ModelFacts.load(directory(tmp_path / "plain", whole()))
    assert held(facts) == held(plain)


def test_experts_are_whole_with_expert_parallelism(tmp_path: Path) -> None:
    """Five experts on two GPUs: the first holds three, whole."""
    moe = TINY | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 1,
    }
    prefix = "model.layers.0.block_sparse_moe."
    tensors = {
        name: shape for name, shape in llama_layer(0).items() if ".mlp." not in name
    } | ENDS  # attention and ends
    for expert in range(5):
        tensors[f"{prefix}experts.{expert}.w1.weight"] = ("BF16", (128, 64))
        tensors[f"{prefix}experts.{expert}.w2.weight"] = ("BF16", (64, 128))
        tensors[f"{prefix}experts.{expert}.w3.weight"] = ("BF16", (128, 64))
    tensors[f"{prefix}gate.weight"] = ("BF16", (5, 64))
    facts = ModelFacts.load(directory(tmp_path, tensors, config=moe))
    described = ModelFacts.from_hf_config(moe)
    one_expert = 3 * 128 * 64 * 2
    assert held(facts, 2) == held(described, 2)
    assert held(facts, 2, expert_parallel=True) == held(described, 2, expert_parallel=True)
    assert held(facts, 2, expert_parallel=True) - held(facts, 2) == 3 * one_expert - 2.5 * one_expert
    # Data parallel ranks share the experts too, with and without expert parallelism.
    assert held(facts, 1, data_parallel_size=5) == held(facts, 1) - 4 * one_expert


def test_an_index_without_its_shards_gives_the_total(tmp_path: Path) -> None:
    directory(tmp_path, llama_layer(0), ENDS)
    described = ModelFacts.from_hf_config(TINY).checkpoint_bytes
    index = tmp_path / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["metadata"]["total_size"] = int(described * 1.1)
    index.write_text(json.dumps(document))
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    facts = ModelFacts.load(tmp_path)
    assert facts.checkpoint == Checkpoint(int(described * 1.1), names=frozenset(document["weight_map"]))
    assert held(facts, 2) == pytest.approx(1.1 * held(ModelFacts.from_hf_config(TINY), 2), rel=1e-4)


def test_the_second_copy_of_mistral_is_not_counted(tmp_path: Path) -> None:
    directory(tmp_path, whole())
    write(tmp_path / "consolidated.safetensors", whole())
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.total_bytes == ModelFacts.from_hf_config(TINY).checkpoint_bytes


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-8B", "openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-30B-A3B"]
)
@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_a_checkpoint_made_of_the_description_weighs_the_same(name: str, tensor: int) -> None:
    """Every matrix of a catalogue model as a tensor: placing them gives what the description gives."""
    described = ModelFacts.load(name)
    tensors = [stored("model.embed_tokens.weight", described.embedding)]
    if described.head is not None:
        tensors.append(stored("lm_head.weight", described.head))
    if described.final_norm is not None:
        tensors.append(stored("model.norm.weight", described.final_norm))
    for place, layer in enumerate(described.layers):
        for weight in layer.weights:
            if weight.module.endswith("absorbed"):
                continue
            copies = weight.copies if ".experts." in f".{weight.module}" else 1
            for expert in range(copies):
                module = weight.module.replace("experts.0.", f"experts.{expert}.")
                tensors.append(stored(f"model.layers.{place}.{module}.weight", replace(weight, copies=1)))
    exact = replace(described, checkpoint=checkpoint_of(tensors))
    settings = EngineConfig(tensor_parallel_size=tensor)
    known = stage_weight_bytes(described, settings, 0)
    assert stage_weight_bytes(exact, settings, 0) == pytest.approx(known, rel=0.002)


def stored(name: str, weight: Weight) -> StoredTensor:
    shape = (weight.rows, weight.columns) if weight.columns > 1 else (weight.rows,)
    return StoredTensor(name, "BF16", shape, round(weight.rows * weight.columns * weight.bits / 8))


def test_the_ledger_uses_the_tensors(tmp_path: Path) -> None:
    facts = ModelFacts.load(directory(tmp_path, whole()))
    ledger = memory_ledger(facts, accelerator("L4"), EngineConfig(max_model_len=512))
    assert ledger.weights_gib == pytest.approx((facts.checkpoint_bytes + facts.rotary_bytes) / GIB)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"w": 1}',
        struct.pack("<Q", 47) + b'{"w": {"dtype": "BF16", "data_offsets": [0, 1]}}',
        struct.pack("<Q", 60) + b'{"w": {"dtype": "BF16", "shape": [1],"data_offsets": [9, 1]}}',
        struct.pack("<Q", 62) + b'{"w": {"dtype": "BF16", "shape": [1],"data_offsets": ["a", 1]}}',
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RecommenderError, match="not a safetensors file") as refused:
        ModelFacts.load(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "index",
    ["{", "[]", '{"weight_map": {"w": "a"}}', '{"metadata": {"total_size": "many"}, "weight_map": {}}',
     '{"metadata": {"total_size": -1}, "weight_map": {}}', '{"weight_map": {"w": "../../a"}}', '{"weight_map": 3}'],
)  # fmt: skip
def test_broken_indexes_are_refused_in_one_line(tmp_path: Path, index: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(RecommenderError, match="download it again") as refused:
        ModelFacts.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_gguf_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model-q4_k.gguf").write_bytes(b"GGUF")
    for place in (tmp_path, tmp_path / "model-q4_k.gguf"):
        with pytest.raises(RecommenderError, match=r"GGUF files .* AWQ or GPTQ"):
            ModelFacts.load(place)
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    with pytest.raises(RecommenderError, match="GGUF files"):
        ModelFacts.load(tmp_path)


WRITTEN: dict[str, Any] = json.loads(Path(__file__).with_name("checkpoints.json").read_text())
"""Configurations and tensors of tiny random models as transformers 5 writes them, without the weights."""


@pytest.mark.parametrize("family", sorted(WRITTEN))
def test_checkpoints_as_transformers_writes_them(family: str, tmp_path: Path) -> None:
    """Names and shapes of a real writer: the description has the same bytes, on one GPU and divided."""
    tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in WRITTEN[family]["tensors"].items()}
    facts = ModelFacts.load(directory(tmp_path, tensors, config=WRITTEN[family]["config"]))
    described = replace(facts, checkpoint=None, weight_bytes=None)
    # Corrections of routers are stored in float32.
    wide = sum(math.prod(shape) * 2 for dtype, shape in tensors.values() if dtype == "F32")
    # The engine keeps A of Mamba in float32.
    widened = sum(math.prod(shape) * 2 for name, (_, shape) in tensors.items() if name.endswith("mixer.A_log"))
    assert facts.weight_bytes == described.checkpoint_bytes + wide - widened
    assert not facts.approximate
    for tensor in (1, 2, 4):
        assert held(facts, tensor) == pytest.approx(held(described, tensor), rel=0.015)
    assert held(facts, 1) == held(described, 1) + wide - widened
