"""Recommendations: feasible, cheapest, explained."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import (
    InfeasibleError,
    Limits,
    ModelFacts,
    Objectives,
    Recommendation,
    RecommenderError,
    Workload,
    accelerator,
    memory_ledger,
    recommend,
)

LLAMA = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
GPUS = [accelerator(name) for name in ("H100", "L4", "A100")]
CHAT = Workload(1200, 250, requests_per_second=4)
FIELDS = {
    "accelerator",
    "replicas",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "max_model_len",
    "kv_cache_dtype",
    "dtype",
    "quantization",
    "engine_version",
}


def check(found: Recommendation, facts: ModelFacts, objectives: Objectives) -> None:
    """What holds of every recommendation."""
    assert memory_ledger(facts, found.accelerator, found.config).fits
    assert found.replicas >= 1
    assert found.config.max_num_batched_tokens >= found.config.max_num_seqs
    for target, latency in ((objectives.ttft, found.predicted.ttft), (objectives.tpot, found.predicted.tpot)):
        assert target is None or latency.at(objectives.percentile) <= target * 1.01
    assert {reason.field for reason in found.reasons} == FIELDS
    assert all(reason.because for reason in found.reasons)
    assert found.cost.gpus == found.replicas * found.config.gpus


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "Qwen/Qwen3-30B-A3B",
        "google/gemma-3-27b-it",
        "openai/gpt-oss-120b",
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "Qwen/Qwen2.5-0.5B",
    ],
)
def test_a_service_is_sized(name: str) -> None:
    facts, objectives = ModelFacts.load(name), Objectives(ttft=2.0, tpot=0.1)
    found = recommend(facts, GPUS, CHAT, objectives)
    check(found, facts, objectives)
    assert found.replicas * found.load_line_rps * 0.8 >= 4 - 1e-6


@given(
    rate=st.floats(0.1, 50),
    tokens_in=st.integers(50, 6000),
    tokens_out=st.integers(20, 1000),
    tpot=st.floats(0.03, 0.2),
    tighter=st.floats(0.3, 1.0),
)
@settings(max_examples=12, deadline=None)
def test_a_tighter_objective_is_never_cheaper(
    rate: float, tokens_in: int, tokens_out: int, tpot: float, tighter: float
) -> None:
    workload = Workload(tokens_in, tokens_out, requests_per_second=rate)
    loose = Objectives(ttft=5.0, tpot=tpot)
    found = recommend(LLAMA, GPUS, workload, loose)
    check(found, LLAMA, loose)
    try:
        strict = recommend(LLAMA, GPUS, workload, Objectives(ttft=5.0 * tighter, tpot=tpot * tighter))
    except InfeasibleError:
        return
    assert strict.cost.per_hour >= found.cost.per_hour - 1e-9


def test_what_is_set_is_obeyed() -> None:
    limits = Limits(
        tensor_parallel_size=2,
        max_num_seqs=32,
        max_num_batched_tokens=4096,
        gpu_memory_utilization=0.8,
        max_model_len=8192,
        kv_cache_dtype="fp8",
        min_replicas=3,
    )
    found = recommend(LLAMA, GPUS, CHAT, limits=limits)
    for field, value in limits.pinned().items():
        assert getattr(found.config, field) == value
    assert found.replicas >= 3
    assert next(r for r in found.reasons if r.field == "max_num_seqs").because.startswith("set by you")


def test_prices_decide() -> None:
    workload, gpus = Workload(500, 100, requests_per_second=1), [accelerator("H100"), accelerator("A100")]
    prices = {gpus[0].product: 3.0, gpus[1].product: 1.0}
    assert recommend(LLAMA, gpus, workload, limits=Limits(hourly_cost=prices)).accelerator == gpus[1]
    prices = {gpus[0].product: 1.0, gpus[1].product: 3.0}
    assert recommend(LLAMA, gpus, workload, limits=Limits(hourly_cost=prices)).accelerator == gpus[0]


def test_limits_that_are_too_low_are_said_not_exceeded() -> None:
    heavy, one_gpu = (
        Workload(1200, 250, requests_per_second=200),
        {"tensor_parallel_size": 1, "pipeline_parallel_size": 1},
    )
    found = recommend(LLAMA, [accelerator("H100")], heavy, limits=Limits(max_replicas=2, **one_gpu))
    assert found.replicas == 2
    assert found.confidence == "Low"
    assert "2 of" in found.confidence_why
    assert "cheapest that would do" in found.confidence_why
    cheap = recommend(
        LLAMA, [accelerator("H100")], Workload(1200, 250, requests_per_second=200), limits=Limits(budget_per_hour=10)
    )
    assert cheap.cost.per_hour <= 10


@pytest.mark.parametrize(
    ("gpu", "limits", "objectives", "named"),
    [
        ("T4", Limits(gpus_per_node={"Tesla-T4": 1}), Objectives(), "GiB"),
        ("H100", Limits(), Objectives(ttft=0.001), "ttft of an idle replica"),
        ("H100", Limits(tensor_parallel_size=3), Objectives(), "does not divide"),
        ("H100", Limits(max_model_len=1024), Objectives(), "max_model_len"),
        ("H100", Limits(budget_per_hour=0.5), Objectives(), "budget_per_hour"),
        ("H100", Limits(max_gpus={"NVIDIA-H100-80GB-HBM3": 1}, tensor_parallel_size=2), Objectives(), "max_gpus"),
    ],
)
def test_what_cannot_work_is_refused_with_the_numbers(
    gpu: str, limits: Limits, objectives: Objectives, named: str
) -> None:
    facts = ModelFacts.load("Qwen/Qwen3-32B") if gpu == "T4" else LLAMA
    with pytest.raises(InfeasibleError) as refused:
        recommend(facts, [accelerator(gpu)], CHAT, objectives, limits)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_accelerator_is_refused() -> None:
    with pytest.raises(RecommenderError, match="no accelerators"):
        recommend(LLAMA, [], CHAT)


@pytest.mark.parametrize(
    "arguments",
    [{"max_replicas": 0}, {"min_replicas": 4, "max_replicas": 2}, {"budget_per_hour": -1}, {"headroom": 1.0}],
)
def test_impossible_limits_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(RecommenderError):
        Limits(**arguments)  # type: ignore[arg-type]
