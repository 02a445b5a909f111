"""The ledger against published start-ups of vLLM, and its invariants."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import EngineConfig, ModelFacts, RecommenderError, accelerator, memory_ledger
from plimsoll_recommender.facts.model import GIB
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import layout_of
from plimsoll_recommender.memory.weights import draft_bytes, stage_range, stage_weight_bytes

H100 = accelerator("H100")


@dataclass(frozen=True)
class StartUp:
    """One row of llm-d-planner pull request 205 (Apache-2.0): vLLM on H100, max_model_len 8192, T 8192, R 1024."""

    model: str
    tensor: int
    weights: float
    kv: float
    blocks: int
    concurrency: float
    kv_dtype: str = "auto"
    share: float = 0.95
    version: str = "0.19.0"


PUBLISHED = [
    StartUp("meta-llama/Llama-3.1-8B-Instruct", 1, 14.99, 58.11, 29_751, 58.11),
    StartUp("meta-llama/Llama-3.1-8B-Instruct", 1, 14.99, 58.11, 59_502, 116.21, kv_dtype="fp8"),
    StartUp("meta-llama/Llama-3.1-8B-Instruct", 4, 3.77, 67.44, 138_112, 269.75),
    StartUp("Qwen/Qwen2.5-7B-Instruct", 1, 14.25, 58.53, 137_000, 267.58, kv_dtype="fp8"),
    StartUp("Qwen/Qwen2.5-72B-Instruct", 2, 67.80, 3.04, 1_245, 2.43),
    StartUp("moonshotai/Kimi-VL-A3B-Instruct", 2, 15.53, 54.78, 118_181, 230.82),
    StartUp("deepseek-ai/DeepSeek-V2-Lite-Chat", 1, 29.43, 43.61, 94_097, 183.78),
    StartUp("openai/gpt-oss-20b", 2, 7.01, 59.32, 323_972, 316.07, share=0.9),
    StartUp("google/gemma-2-27b-it", 1, 50.72, 20.59, 7_335, 7.16),
    StartUp("google/gemma-3-27b-it", 1, 51.45, 19.53, 15_997, 4.46),
    StartUp("meta-llama/Llama-4-Scout-17B-16E-Instruct", 4, 53.12, 16.75, 91_495, 44.68),
    StartUp("Qwen/Qwen3-30B-A3B", 1, 56.88, 15.41, 10_518, 20.54),
    StartUp("ibm-granite/granite-3.1-8b-instruct", 1, 15.25, 58.66, 24_027, 46.93),
    StartUp("Qwen/Qwen3-14B", 1, 27.52, 41.94, 17_178, 33.55, version="0.15.0"),
    StartUp("Qwen/Qwen3-14B", 1, 27.52, 45.34, 18_572, 36.27, version="0.17.0"),
]


def config_of(row: StartUp) -> EngineConfig:
    return EngineConfig(
        tensor_parallel_size=row.tensor,
        gpu_memory_utilization=row.share,
        max_model_len=8192,
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
        kv_cache_dtype=row.kv_dtype,
        engine_version=row.version,
    )


def names(row: StartUp) -> str:
    return f"{row.model.partition('/')[2]}-tp{row.tensor}-{row.kv_dtype}-{row.version}"


@pytest.mark.parametrize("row", PUBLISHED, ids=names)
def test_blocks_follow_from_the_logged_kv_cache(row: StartUp) -> None:
    ledger = memory_ledger(ModelFacts.load(row.model), H100, config_of(row))
    # The log rounds GiB to two digits.
    tolerance = 0.0051 * GIB / ledger.bytes_per_block + 1
    assert abs(row.kv * GIB / ledger.bytes_per_block - row.blocks) <= tolerance
    per_sequence = ledger.kv_cache_blocks / ledger.max_concurrency
    assert row.blocks / per_sequence == pytest.approx(row.concurrency, abs=0.006)


@pytest.mark.parametrize("row", PUBLISHED, ids=names)
def test_weights_from_config_alone(row: StartUp) -> None:
    ledger = memory_ledger(ModelFacts.load(row.model), H100, config_of(row))
    # The worst is gpt-oss-20b, 1.5 %: how far its kernels pad the experts at TP 2 is not known exactly.
    assert ledger.weights_gib == pytest.approx(row.weights, rel=0.016)


@pytest.mark.parametrize("row", PUBLISHED, ids=names)
def test_kv_cache_from_measured_weights(row: StartUp) -> None:
    ledger = memory_ledger(
        ModelFacts.load(row.model), H100, config_of(row), weights_gib=row.weights, gpu_total_gib=79.19
    )
    assert ledger.fits
    assert ledger.kv_cache_gib == pytest.approx(row.kv, rel=0.02)
    assert ledger.kv_cache_low_gib <= row.kv <= ledger.kv_cache_high_gib


def test_a_start_of_a_later_release_on_another_gpu() -> None:
    """Llama-3.1-8B on an A100 with vLLM 0.31 and its own defaults: a log published in October 2026.

    Of 72.91 GiB allowed, 15.26 were consumed (weights 15.0), 1.44 reserved for activations and graphs, 56.21 left.
    """
    facts, gpu = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct"), accelerator("A100-80GB")
    ledger = memory_ledger(facts, gpu, EngineConfig(engine_version="0.31.0"))
    assert ledger.requested_gib == pytest.approx(72.91, abs=0.01)
    assert ledger.weights_gib == pytest.approx(15.0, abs=0.02)
    assert ledger.weights_gib + ledger.non_torch_gib == pytest.approx(15.26, abs=0.05)
    assert ledger.activation_peak_gib + ledger.cuda_graphs_gib == pytest.approx(1.44, abs=0.2)
    assert ledger.kv_cache_gib == pytest.approx(56.21, rel=0.005)
    assert ledger.kv_cache_low_gib < 56.21 < ledger.kv_cache_high_gib
    assert ledger.kv_cache_tokens == pytest.approx(460_496, rel=0.005)
    assert ledger.max_concurrency == pytest.approx(3.51, abs=0.03)


def test_log_line_before_and_since_it_counts_by_concurrency() -> None:
    """0.20 and before log blocks per group; since 0.21 the log states concurrency times max_model_len."""
    facts = ModelFacts.load("openai/gpt-oss-20b")
    old = memory_ledger(facts, H100, EngineConfig(max_model_len=8192, engine_version="0.19.0"))
    new = memory_ledger(facts, H100, EngineConfig(max_model_len=8192, engine_version="0.33.0"))
    assert old.kv_cache_tokens == old.kv_cache_blocks // 2 * 16
    assert new.kv_cache_tokens == int(new.max_concurrency * 8192)


def test_graphs_come_out_of_the_kv_cache_since_0_21() -> None:
    facts = ModelFacts.load("Qwen/Qwen3-8B")
    old, new = (
        memory_ledger(facts, H100, EngineConfig(gpu_memory_utilization=0.9, engine_version=version))
        for version in ("0.20.0", "0.21.0")
    )
    assert new.kv_cache_gib == pytest.approx(old.kv_cache_gib - old.cuda_graphs_gib, abs=0.01)


def test_too_large_a_model_names_numbers_and_the_fix() -> None:
    ledger = memory_ledger(ModelFacts.load("meta-llama/Llama-3.1-70B-Instruct"), accelerator("L4"))
    assert not ledger.fits
    assert "needs 131.4 GiB of weights" in ledger.reason
    assert "use tensor_parallel_size 8" in ledger.reason


def test_too_long_a_context_names_the_longest_that_fits() -> None:
    facts, gpu = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct"), accelerator("L4")
    refused = memory_ledger(facts, gpu, EngineConfig(max_model_len=131_072))
    assert not refused.fits
    longest = int(refused.reason.split("use max_model_len ")[1].split(" ")[0].replace(",", ""))
    assert memory_ledger(facts, gpu, EngineConfig(max_model_len=longest)).fits
    assert not memory_ledger(facts, gpu, EngineConfig(max_model_len=longest + 1)).fits


def test_too_high_a_utilization_is_refused() -> None:
    ledger = memory_ledger(
        ModelFacts.load("Qwen/Qwen3-0.6B"), accelerator("T4"), EngineConfig(gpu_memory_utilization=0.99)
    )
    assert not ledger.fits
    assert "gpu_memory_utilization 0.99 leaves" in ledger.reason


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-8B", "openai/gpt-oss-20b", "Qwen/Qwen3.5-35B-A3B", "google/gemma-3-12b-it"]
)
@given(smaller=st.floats(8, 200), more=st.floats(0.1, 200))
@settings(max_examples=25, deadline=None)
def test_more_memory_never_fits_less(name: str, smaller: float, more: float) -> None:
    facts = ModelFacts.load(name)
    config = EngineConfig(max_model_len=8192, gpu_memory_utilization=0.85, max_num_seqs=64, max_num_batched_tokens=2048)
    less = memory_ledger(facts, H100, config, gpu_total_gib=smaller)
    greater = memory_ledger(facts, H100, config, gpu_total_gib=smaller + more)
    assert greater.fits >= less.fits
    assert greater.kv_cache_blocks >= less.kv_cache_blocks
    assert greater.max_concurrency >= less.max_concurrency


@given(
    tensor=st.sampled_from([1, 2, 4, 8]),
    sequences=st.integers(1, 1024),
    share=st.floats(0.3, 0.95),
    length=st.integers(16, 40_960),
)
@settings(max_examples=60, deadline=None)
def test_the_parts_never_exceed_what_is_allowed(tensor: int, sequences: int, share: float, length: int) -> None:
    config = EngineConfig(
        tensor_parallel_size=tensor,
        max_num_seqs=sequences,
        max_num_batched_tokens=max(2048, sequences),
        gpu_memory_utilization=share,
        max_model_len=length,
    )
    ledger = memory_ledger(ModelFacts.load("Qwen/Qwen3-8B"), H100, config)
    if ledger.fits:
        used = ledger.weights_gib + ledger.activation_peak_gib + ledger.non_torch_gib + ledger.kv_cache_gib
        assert used + ledger.cuda_graphs_gib <= ledger.requested_gib + 1e-6
        assert ledger.kv_cache_blocks * ledger.bytes_per_block <= ledger.kv_cache_gib * GIB
        assert ledger.max_concurrency >= 1


def test_heads_that_do_not_divide_are_refused_with_those_that_do() -> None:
    with pytest.raises(RecommenderError, match="tensor_parallel_size 3 does not divide the 32 attention heads"):
        memory_ledger(ModelFacts.load("Qwen/Qwen3-8B"), H100, EngineConfig(tensor_parallel_size=3))


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    facts = ModelFacts.load("Qwen/Qwen3-30B-A3B")
    four, eight = (
        memory_ledger(facts, H100, EngineConfig(tensor_parallel_size=size, max_model_len=8192)) for size in (4, 8)
    )
    assert four.bytes_per_block == eight.bytes_per_block


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)

READABLE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}

FIELDS = [
    *READABLE,
    "head_dim", "sliding_window", "layer_types", "rope_scaling", "quantization_config", "text_config",
    "kv_lora_rank", "q_lora_rank", "index_n_heads", "num_experts", "moe_intermediate_size",
    "num_nextn_predict_layers", "vision_config", "tie_word_embeddings", "linear_num_value_heads",
    "hybrid_override_pattern", "mamba_num_heads", "compress_ratios", "block_configs", "linear_attn_config",
    "moe_layer_freq", "partial_rotary_factor", "sparse_attention_config", "num_kv_shared_layers", "mlp_layer_types",
    "dtype", "expert_dtype",
]  # fmt: skip


def check_line(error: RecommenderError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 700


@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), tensor=st.sampled_from([1, 2, 3, 8]))
@settings(max_examples=200, deadline=None)
def test_whatever_a_config_holds_the_answer_is_a_ledger_or_one_line(changes: dict[str, object], tensor: int) -> None:
    try:
        facts = ModelFacts.from_hf_config(READABLE | changes)
        memory_ledger(facts, H100, EngineConfig(tensor_parallel_size=tensor))
    except RecommenderError as error:
        check_line(error)


@given(
    values=st.dictionaries(
        st.sampled_from(list(EngineConfig.__dataclass_fields__)), JSON | st.sampled_from([10**400, -1, 0]), max_size=3
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_settings_hold_the_answer_is_a_ledger_or_one_line(values: dict[str, object]) -> None:
    try:
        config = EngineConfig(**values)  # type: ignore[arg-type]
        memory_ledger(ModelFacts.from_hf_config(READABLE), H100, config)
    except RecommenderError as error:
        check_line(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, "80", True, None, 10**400])
def test_measured_values_that_are_none_are_refused(value: object) -> None:
    facts = ModelFacts.load("Qwen/Qwen3-8B")
    for name in ("gpu_total_gib", "weights_gib"):
        if value is None:
            memory_ledger(facts, H100, **{name: value})  # type: ignore[arg-type]
            continue
        with pytest.raises(RecommenderError, match=name):
            memory_ledger(facts, H100, **{name: value})  # type: ignore[arg-type]


WIDE = [
    "Qwen/Qwen3-8B",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-30B-A3B",
    "google/gemma-3-27b-it",
    "Qwen/Qwen3-VL-8B-Instruct",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "nvidia/Qwen3-235B-A22B-NVFP4",
]


@pytest.mark.parametrize("name", WIDE)
def test_more_gpus_hold_less_each_and_no_less_together(name: str) -> None:
    facts = ModelFacts.load(name)
    one = stage_weight_bytes(facts, EngineConfig(), 0)
    before = one
    for size in (2, 4, 8):
        if facts.num_attention_heads % size:
            continue
        for whole_experts in (False, True):
            config = EngineConfig(tensor_parallel_size=size, expert_parallel=whole_experts)
            held = stage_weight_bytes(facts, config, 0)
            assert held <= one
            # The allocator's rounding is the only thing that may be lost: 1 MiB of a large matrix.
            assert held * size >= one * 0.97
        assert held <= before * 1.02
        before = held


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("stages", [2, 3, 4, 7])
def test_stages_hold_the_whole_model_between_them(name: str, stages: int) -> None:
    facts = ModelFacts.load(name)
    config = EngineConfig(pipeline_parallel_size=stages)
    parts = [stage_weight_bytes(facts, config, stage) for stage in range(stages)]
    copies = facts.rotary_bytes * (stages - 1) + (facts.embedding.bytes_per_gpu(1) if facts.head is None else 0.0)
    assert sum(parts) == pytest.approx(stage_weight_bytes(facts, EngineConfig(), 0) + copies, rel=1e-9)
    places = [stage_range(facts, stages, stage) for stage in range(stages)]
    assert [place for part in places for place in part] == list(range(len(facts.layers)))
    # What remains goes before the last stage, so no stage has fewer layers than the last (get_pp_indices).
    assert all(len(part) >= len(places[-1]) for part in places)


def test_the_stage_that_binds_is_named() -> None:
    facts = ModelFacts.load("meta-llama/Llama-3.1-70B-Instruct")
    config = EngineConfig(tensor_parallel_size=2, pipeline_parallel_size=4, max_model_len=8192)
    ledger = memory_ledger(facts, H100, config)
    blocks = []
    for stage in range(4):
        part = layout_of(facts, resolve(config, facts, H100), stage)
        assert part.bytes_per_block == 16 * 20 * 4 * 256 * 2
        blocks.append(stage_weight_bytes(facts, config, stage))
    assert ledger.reason.startswith(f"pipeline stage {ledger.stage} of 4 (ranks {2 * ledger.stage} to ")
    assert ledger.weights_gib == pytest.approx(blocks[ledger.stage] / GIB)
    # The last stage has the head and the sampler.
    assert ledger.stage == 3


def test_adapters_take_what_the_engine_sets_aside() -> None:
    """Llama-3.1-8B at rank 16: 41.9 million elements in the layers' matrices (PEFT's count), embedding and head."""
    facts = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
    plain = memory_ledger(facts, H100, EngineConfig(max_model_len=8192))
    four = memory_ledger(facts, H100, EngineConfig(max_model_len=8192, max_loras=4, max_lora_rank=16))
    layers = 41_943_040
    ends = 16 * 2 * (128_256 + 4096)
    assert (four.weights_gib - plain.weights_gib) * GIB == pytest.approx(4 * 2 * (layers + ends), rel=1e-6)
    # Divided over GPUs, A of one kind of matrix and B of the other stay whole.
    split = EngineConfig(max_model_len=8192, tensor_parallel_size=4)
    lighter, heavier = (
        memory_ledger(facts, H100, replace(split, max_loras=count, max_lora_rank=16)).weights_gib for count in (0, 4)
    )
    assert (heavier - lighter) * GIB > 4 * 2 * (layers + ends) / 4


def test_prediction_layers_weigh_on_the_last_stage_when_they_draft() -> None:
    facts = ModelFacts.load("deepseek-ai/DeepSeek-V3")
    config = EngineConfig(tensor_parallel_size=8, pipeline_parallel_size=2, max_model_len=8192)
    settled = resolve(replace(config, num_speculative_tokens=1), facts, accelerator("H200"))
    drafted = draft_bytes(facts, settled, None)
    # 11.6 billion parameters in fp8 over 8 GPUs, beside what is on every one of them.
    assert 1.3 < drafted / GIB < 1.7
    assert draft_bytes(facts, replace(settled, speculative_method="ngram"), None) == 0
    assert draft_bytes(facts, replace(settled, draft_weights_gib=3.0), None) == 3.0 * GIB


def test_the_image_encoder_is_whole_in_data_mode() -> None:
    facts = ModelFacts.load("Qwen/Qwen3-VL-8B-Instruct")
    divided, whole = (
        memory_ledger(facts, H100, EngineConfig(tensor_parallel_size=4, max_model_len=8192, mm_encoder_tp_mode=mode))
        for mode in ("weights", "data")
    )
    encoder = sum(weight.elements for weight in facts.vision if weight.linear) * 2 / GIB
    assert whole.weights_gib - divided.weights_gib == pytest.approx(encoder * 3 / 4, rel=0.01)


def test_unknown_architectures_are_read_as_llama_like_and_said() -> None:
    strange = {key: value for key, value in READABLE.items() if key not in ("architectures", "model_type")}
    facts = ModelFacts.from_hf_config(strange | {"architectures": ["ZorpForCausalLM"], "model_type": "zorp"})
    assert "ZorpForCausalLM is not known" in facts.approximate
    assert facts.layers == ModelFacts.from_hf_config(READABLE).layers
    assert not ModelFacts.from_hf_config(READABLE).approximate
    with pytest.raises(RecommenderError, match="has no intermediate_size: add it"):
        ModelFacts.from_hf_config({key: value for key, value in strange.items() if key != "intermediate_size"})
