"""What the search may choose, what it may not, and what it says about it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from plimsoll_recommender import (
    Corrections,
    EngineConfig,
    InfeasibleError,
    Limits,
    ModelFacts,
    Objectives,
    Recommendation,
    RecommenderError,
    Variant,
    Workload,
    accelerator,
    observe,
    predict,
    recommend,
)
from plimsoll_recommender.catalogue.accelerators import catalogue
from plimsoll_recommender.search.shapes import Shape, undividable

LLAMA = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
H100, A100, L4 = (accelerator(name) for name in ("H100", "A100", "L4"))
OBJECTIVES = Objectives(ttft=2.0, tpot=0.05)
HEAVY = Workload(6000, 800, requests_per_second=20)
NOT_STATED = {
    "enforce_eager",
    "block_size",
    "max_loras",
    "max_lora_rank",
    "num_speculative_tokens",
    "draft_weights_gib",
}
"""Settings that the search leaves at the engine's defaults, and the name of the engine."""


def reason(found: Recommendation, field: str) -> tuple[str, str, str]:
    """(value, because, what was rejected) of a field."""
    given = next(reason for reason in found.reasons if reason.field == field)
    return given.value, given.because, "; ".join(given.rejected)


def test_eight_bit_kv_is_chosen_only_where_allowed_and_computed_in() -> None:
    plain = recommend(LLAMA, [H100], HEAVY, OBJECTIVES)
    assert plain.config.kv_cache_dtype == "auto"
    assert "tokens would fit" in reason(plain, "kv_cache_dtype")[2]
    allowed = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, Limits(allow_kv_cache_dtypes=("fp8",)))
    assert allowed.config.kv_cache_dtype == "fp8"
    assert allowed.cost.per_hour < plain.cost.per_hour
    assert "you allow" in reason(allowed, "kv_cache_dtype")[1]
    older = recommend(LLAMA, [A100], HEAVY, OBJECTIVES, Limits(allow_kv_cache_dtypes=("fp8",)))
    assert older.config.kv_cache_dtype == "auto"
    assert "does not compute in fp8" in reason(older, "kv_cache_dtype")[2]


def test_a_variant_is_chosen_only_where_allowed_and_cheaper() -> None:
    large = ModelFacts.load("meta-llama/Llama-3.1-70B-Instruct")
    workload = Workload(1000, 250, requests_per_second=1)
    plain = recommend(large, [H100], workload, OBJECTIVES)
    assert plain.variant == ""
    assert plain.config.quantization is None
    allowed = recommend(large, [H100], workload, OBJECTIVES, Limits(variants=(Variant("fp8", quantization="fp8"),)))
    assert allowed.variant == "fp8"
    assert allowed.config.quantization == "fp8"
    assert allowed.facts == large
    assert allowed.cost.per_hour < plain.cost.per_hour
    assert large.name in reason(allowed, "quantization")[2]
    stored = Variant("Qwen/Qwen3-30B-A3B-FP8", ModelFacts.load("Qwen/Qwen3-30B-A3B-FP8"))
    light = recommend(
        ModelFacts.load("Qwen/Qwen3-30B-A3B"), [L4], workload, Objectives(tpot=0.1), Limits(variants=(stored,))
    )
    assert light.variant == stored.name
    assert light.facts == stored.facts
    assert light.config.quantization is None


def test_nothing_is_changed_where_nothing_is_gained() -> None:
    limits = Limits(allow_kv_cache_dtypes=("fp8",), variants=(Variant("fp8", quantization="fp8"),))
    found = recommend(LLAMA, [H100], Workload(500, 100, requests_per_second=0.5), OBJECTIVES, limits)
    assert (found.variant, found.config.kv_cache_dtype, found.config.quantization) == ("", "auto", None)


def test_experts_are_placed_whole_only_where_allowed() -> None:
    facts, workload = ModelFacts.load("deepseek-ai/DeepSeek-V3"), Workload(4000, 1000, requests_per_second=10)
    plain = recommend(facts, [accelerator("H200")], workload, Objectives(ttft=3, tpot=0.06))
    assert plain.config.data_parallel_size == 1
    assert not plain.config.expert_parallel
    allowed = recommend(
        facts, [accelerator("H200")], workload, Objectives(ttft=3, tpot=0.06), Limits(allow_expert_parallel=True)
    )
    assert allowed.cost.per_hour <= plain.cost.per_hour
    assert allowed.cost.gpus == allowed.replicas * allowed.config.gpus
    assert {"data_parallel_size", "expert_parallel"} <= {given.field for given in allowed.reasons}


def test_a_model_is_not_divided_where_the_engine_refuses() -> None:
    experts = ModelFacts.load("Qwen/Qwen3-235B-A22B-FP8")
    assert "192 of the expert width" in undividable(experts, Shape(8))
    assert undividable(experts, Shape(4)) == ""
    assert undividable(experts, Shape(8, expert_parallel=True)) == ""
    assert "10 KV heads" in undividable(ModelFacts.load("microsoft/phi-4"), Shape(4))
    with pytest.raises(InfeasibleError, match="expert width"):
        recommend(experts, [accelerator("H200")], HEAVY, limits=Limits(tensor_parallel_size=8))


def test_a_node_bounds_tensor_parallelism() -> None:
    limits = Limits(gpus_per_node={H100.product: 2}, pipeline_parallel_size=1)
    found = recommend(ModelFacts.load("Qwen/Qwen3-32B"), [H100], HEAVY, Objectives(ttft=5), limits)
    assert found.config.tensor_parallel_size <= 2
    with pytest.raises(InfeasibleError):
        recommend(ModelFacts.load("meta-llama/Llama-3.1-405B-Instruct"), [H100], HEAVY, OBJECTIVES, limits)


def test_every_setting_that_is_stated_has_a_reason() -> None:
    found = recommend(
        ModelFacts.load("Qwen/Qwen3-30B-A3B"), [H100, L4], HEAVY, OBJECTIVES, Limits(allow_expert_parallel=True)
    )
    given = {item.field for item in found.reasons}
    config, default = found.config, EngineConfig()
    stated = {
        item.name for item in fields(EngineConfig) if getattr(config, item.name) != getattr(default, item.name)
    } - NOT_STATED
    assert stated <= given
    assert all(item.because and item.value for item in found.reasons)
    assert all(
        item.rejected for item in found.reasons if item.field in ("max_num_seqs", "accelerator", "max_model_len")
    )


def test_the_frontier_is_one() -> None:
    found = recommend(LLAMA, catalogue(), Workload(1000, 250, requests_per_second=10), OBJECTIVES)
    points = found.pareto
    assert points[0].hourly_cost == found.cost.per_hour
    for cheaper, dearer in itertools.pairwise(points):
        assert cheaper.hourly_cost is not None
        assert dearer.hourly_cost is not None
        assert cheaper.e2e is not None
        assert dearer.e2e is not None
        assert cheaper.hourly_cost <= dearer.hourly_cost
        assert cheaper.e2e > dearer.e2e
    assert len(points) > 1
    for other in found.alternatives:
        assert other.rejected_because
        if other.e2e is not None and not other.on_frontier:
            assert any(p.e2e <= other.e2e and p.hourly_cost <= other.hourly_cost for p in points if p.e2e)


def test_a_context_that_memory_binds_is_shrunk_and_said() -> None:
    found = recommend(
        LLAMA, [L4], Workload(2000, 500, requests_per_second=0.1), Objectives(), Limits(tensor_parallel_size=1)
    )
    assert 6250 <= found.config.max_model_len < LLAMA.max_position_embeddings
    assert "KV" in reason(found, "max_model_len")[1]
    given = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, Limits(max_model_len=20_000))
    assert given.config.max_model_len == 20_000


def test_the_reason_of_utilization_follows_the_release() -> None:
    before = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, Limits(engine_version="0.19.0"))
    after = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, Limits(engine_version="0.32.0"))
    assert "outside" in reason(before, "gpu_memory_utilization")[1]
    assert "inside" in reason(after, "gpu_memory_utilization")[1]
    assert before.config.gpu_memory_utilization <= after.config.gpu_memory_utilization


def test_a_budget_that_buys_nothing_names_what_would_do() -> None:
    with pytest.raises(InfeasibleError, match=r"budget_per_hour 0\.2 buys no replica .* the cheapest that would do is"):
        recommend(LLAMA, [H100, L4], HEAVY, OBJECTIVES, Limits(budget_per_hour=0.2))


def test_aliases_and_prices_of_products_that_are_not_asked_about_are_taken() -> None:
    limits = Limits(hourly_cost={"h100": 0.01, "B200": 1.0}, max_gpus={"L4": 4})
    found = recommend(LLAMA, [H100, L4], Workload(500, 100, requests_per_second=1), OBJECTIVES, limits)
    assert found.accelerator == H100
    assert found.cost.per_hour == pytest.approx(0.01)


def test_ceilings_bound_what_is_chosen_on_their_gpu_alone() -> None:
    limits = Limits(utilization_ceiling={"H100": 0.83}, sequences_ceiling={"H100": 20})
    found = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, limits)
    assert (found.config.gpu_memory_utilization, found.config.max_num_seqs) == (0.83, 20)
    assert "utilization_ceiling" in reason(found, "gpu_memory_utilization")[1]
    free = recommend(LLAMA, [L4], HEAVY, OBJECTIVES)
    assert recommend(LLAMA, [L4], HEAVY, OBJECTIVES, limits).config == free.config
    high = Limits(utilization_ceiling={"L4": 1.0}, sequences_ceiling={"L4": 4096})
    assert recommend(LLAMA, [L4], HEAVY, OBJECTIVES, high).config == free.config


def test_what_is_pinned_has_no_ceiling() -> None:
    pinned = {"gpu_memory_utilization": 0.9, "max_num_seqs": 64}
    limits = Limits(utilization_ceiling={"H100": 0.8}, sequences_ceiling={"H100": 16}, **pinned)
    found = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, limits).config
    assert (found.gpu_memory_utilization, found.max_num_seqs) == (0.9, 64)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Limits(utilization_ceiling={"H100": 1.5}), "utilization_ceiling of H100"),
        (lambda: Limits(sequences_ceiling={"H100": 0}), "sequences_ceiling of H100"),
        (lambda: Limits(max_gpus={"H100x9": 3}), "max_gpus: accelerator 'H100x9'"),
        (lambda: Limits(hourly_cost={"": 3}), "hourly_cost: accelerator ''"),
        (lambda: Limits(max_model_len=10**8), "max_model_len 100,000,000 is more than the 131,072 positions"),
        (lambda: Limits(variants=(Variant("x", quantization="q9"),)), "variants: x"),
        (lambda: Limits(variants=(Variant("x", quantization="fp8"), Variant("x", LLAMA))), "named twice"),
        (lambda: Limits(variants=(Variant("y", ModelFacts.load("Qwen/Qwen3-30B-A3B-FP8"), "fp8"),)), "already"),
        (lambda: Variant("nothing"), "changes nothing"),
        (lambda: Limits(allow_kv_cache_dtypes=("fp4",)), "kv_cache_dtype 'fp4'"),
        (lambda: Limits(tensor_parallel_size=0), "tensor_parallel_size must be"),
        (lambda: Limits(tensor_parallel_size=10**6), "tensor_parallel_size must be at most"),
        (lambda: Limits(max_num_seqs=-4), "max_num_seqs must be"),
        (lambda: Limits(gpu_memory_utilization=1.5), "gpu_memory_utilization must be"),
        (lambda: Limits(headroom=float("nan")), "headroom must be"),
        (lambda: Limits(budget_per_hour=float("inf")), "budget_per_hour must be"),
        (lambda: Limits(max_kinds=0), "max_kinds must be"),
        (lambda: Limits(gpus_per_node={"H100": 0}), "gpus_per_node of H100"),
        (lambda: Limits(hourly_cost={"H100": -1.0}), "hourly_cost of H100"),
        (lambda: Limits(min_replicas=-1), "min_replicas must be"),
        (lambda: Limits(engine_version="latest"), "engine_version"),
        (lambda: Workload(requests_per_second=-1.0), "requests_per_second must be"),
        (lambda: Workload(10**9, 10), "positions of meta-llama"),
        (lambda: Objectives(tpot=0.0), "tpot must be"),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_the_field(make: Callable[[], object], said: str) -> None:
    with pytest.raises(RecommenderError) as refused:
        ask_with(make)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def ask_with(make: Callable[[], object]) -> None:
    """Make limits or a workload, and ask with them."""
    given = make()
    limits = given if isinstance(given, Limits) else None
    recommend(LLAMA, [H100], given if isinstance(given, Workload) else HEAVY, OBJECTIVES, limits)


def test_zero_heads_are_refused() -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 0}
    config |= {"architectures": ["LlamaForCausalLM"], "intermediate_size": 128, "vocab_size": 100}
    with pytest.raises(RecommenderError, match="num_attention_heads"):
        ModelFacts.from_hf_config(config)


def test_what_was_observed_corrects_the_next_answer() -> None:
    busy = Workload(6000, 800, concurrency=20)
    plain = recommend(LLAMA, [H100], HEAVY, OBJECTIVES)
    assert recommend(LLAMA, [H100], HEAVY, OBJECTIVES, corrections=Corrections()) == plain
    config = replace(plain.config, max_num_seqs=256)
    slow = predict(LLAMA, H100, config, busy).tpot.mean * 1.3
    seen = observe({"tpot": slow, "requests": 5000}, facts=LLAMA, gpu=H100, config=config, workload=busy)
    known = Corrections().with_observation(seen)
    found = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, corrections=known)
    assert found.cost.per_hour >= plain.cost.per_hour
    pinned = Limits(tensor_parallel_size=1, pipeline_parallel_size=1)
    before = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, pinned)
    after = recommend(LLAMA, [H100], HEAVY, OBJECTIVES, pinned, corrections=known)
    assert after.load_line_rps < 0.95 * before.load_line_rps
    assert after.predicted.tpot.at(95) <= 0.05 * 1.005


def test_a_gpu_without_room_for_the_reserve_is_refused_not_crashed() -> None:
    with pytest.raises(InfeasibleError):
        recommend(LLAMA, [replace(L4, memory_gib=0.5)], HEAVY)
