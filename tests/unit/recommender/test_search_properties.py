"""What holds of every recommendation, whatever is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from plimsoll_recommender import (
    InfeasibleError,
    Limits,
    ModelFacts,
    Objectives,
    Recommendation,
    Workload,
    accelerator,
    memory_ledger,
    predict,
    recommend,
)
from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.search.ask import asked
from plimsoll_recommender.search.candidates import fitted, preference, token_budgets, with_budget
from plimsoll_recommender.search.explore import best_budget, explore, places

MODELS = (
    "Qwen/Qwen2.5-0.5B",
    "meta-llama/Llama-3.1-8B-Instruct",
    "google/gemma-3-27b-it",
    "openai/gpt-oss-20b",
    "Qwen/Qwen3-30B-A3B",
    "microsoft/phi-4",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
)
GPUS = ("T4", "L4", "A10", "RTX 4090", "L40S", "A100", "H100", "H200", "MI300X")
CENT = 1e-6

models = st.sampled_from(MODELS)
kinds = st.lists(st.sampled_from(GPUS), min_size=1, max_size=3, unique=True)
workloads = st.builds(
    lambda tokens_in, tokens_out, rate, burst, open_loop: Workload(
        tokens_in,
        tokens_out,
        requests_per_second=rate if open_loop else None,
        concurrency=None if open_loop else max(1.0, rate * 10),
        burstiness=burst,
    ),
    st.integers(16, 6000),
    st.integers(1, 1500),
    st.floats(0.05, 300),
    st.floats(0, 3),
    st.booleans(),
)
targets = st.builds(
    lambda ttft, tpot, e2e, percentile: Objectives(ttft, tpot, None if e2e is None else e2e + (ttft or 0), percentile),
    st.none() | st.floats(0.2, 10),
    st.none() | st.floats(0.01, 0.3),
    st.none() | st.floats(5, 300),
    st.sampled_from([50.0, 90.0, 95.0, 99.0]),
)
limits = st.builds(
    lambda share, version, dtypes, experts: Limits(
        headroom=share, engine_version=version, allow_kv_cache_dtypes=dtypes, allow_expert_parallel=experts
    ),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([None, "0.16.0", "0.19.0"]),
    st.sampled_from([(), ("fp8",)]),
    st.booleans(),
)
# A case takes a tenth of a second: shrinking one that fails would take minutes, and says little more.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
budgeted = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)


def named(names: list[str]) -> list[Accelerator]:
    """The accelerators of names, each once."""
    return [accelerator(name) for name in dict.fromkeys(names)]


def answer(
    model: str, gpus: list[Accelerator], workload: Workload, objectives: Objectives, asked_limits: Limits
) -> Recommendation | None:
    """The recommendation, or None where there is none."""
    try:
        return recommend(ModelFacts.load(model), gpus, workload, objectives, asked_limits)
    except InfeasibleError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert "inf" not in refusal.split()
    return None


@given(model=models, gpus=kinds, workload=workloads, objectives=targets, limit=limits)
@budgeted
def test_a_recommendation_passes_its_own_ledger_and_meets_the_objectives_at_its_load_line(
    model: str, gpus: list[str], workload: Workload, objectives: Objectives, limit: Limits
) -> None:
    found = answer(model, named(gpus), workload, objectives, limit)
    if found is None:
        return
    config = found.config
    assert found.facts is not None
    assert memory_ledger(found.facts, found.accelerator, config).fits
    assert config.max_num_batched_tokens >= config.max_num_seqs
    assert config.max_model_len <= found.facts.max_position_embeddings
    assert found.cost.gpus == found.replicas * config.gpus
    carries = found.load_line_rps if workload.requests_per_second else found.load_line_concurrency
    wanted = workload.requests_per_second or workload.concurrency or 0.0
    assert found.replicas * carries * (1 - limit.headroom) >= wanted * (1 - 1e-6)
    # Counted from the workload of an open loop: the load line is one.
    open_loop = replace(
        workload,
        concurrency=None,
        requests_per_second=found.load_line_rps,
        input_tokens_p95=workload.input_p95,
        output_tokens_p95=workload.output_p95,
    )
    predicted = predict(found.facts, found.accelerator, config, open_loop, objectives)
    for name in ("ttft", "tpot", "e2e"):
        target = getattr(objectives, name)
        assert target is None or getattr(predicted, name).at(objectives.percentile) <= target * 1.005, name
        assert target is None or getattr(found.predicted, name).at(objectives.percentile) <= target * 1.005, name


@given(
    model=models,
    gpus=kinds,
    workload=workloads,
    objectives=targets,
    limit=limits,
    tighter=st.floats(0.3, 0.99),
    which=st.sampled_from(["ttft", "tpot", "e2e"]),
)
@budgeted
def test_a_tighter_objective_is_never_cheaper(
    model: str,
    gpus: list[str],
    workload: Workload,
    objectives: Objectives,
    limit: Limits,
    tighter: float,
    which: str,
) -> None:
    loose = answer(model, named(gpus), workload, objectives, limit)
    now = getattr(objectives, which)
    target = (now if now is not None else 20.0) * tighter
    if which == "e2e" and objectives.ttft is not None:
        target = max(target, objectives.ttft)
    if which == "ttft" and objectives.e2e is not None:
        target = min(target, objectives.e2e)
    strict = answer(model, named(gpus), workload, replace(objectives, **{which: target}), limit)
    if strict is not None:
        assert loose is not None
        assert strict.cost.per_hour >= loose.cost.per_hour - CENT


@given(model=models, gpu=st.sampled_from(GPUS), workload=workloads, objectives=targets, more=st.floats(1.001, 20))
@budgeted
def test_more_demand_never_needs_fewer_gpus(
    model: str, gpu: str, workload: Workload, objectives: Objectives, more: float
) -> None:
    less = answer(model, named([gpu]), workload, objectives, Limits())
    rate, flight = workload.requests_per_second, workload.concurrency
    raised = replace(
        workload,
        requests_per_second=None if rate is None else rate * more,
        concurrency=None if flight is None else flight * more,
    )
    found = answer(model, named([gpu]), raised, objectives, Limits())
    assert (less is None) == (found is None)
    if less is not None and found is not None:
        assert found.cost.gpus >= less.cost.gpus


@given(model=models, gpus=kinds, other=st.sampled_from(GPUS), workload=workloads, objectives=targets, limit=limits)
@budgeted
def test_another_allowed_accelerator_is_never_costlier(
    model: str, gpus: list[str], other: str, workload: Workload, objectives: Objectives, limit: Limits
) -> None:
    few = answer(model, named(gpus), workload, objectives, limit)
    more = answer(model, named([*gpus, other]), workload, objectives, limit)
    if few is not None:
        assert more is not None
        assert more.cost.per_hour <= few.cost.per_hour + CENT


@given(
    model=models,
    gpus=kinds,
    workload=workloads,
    objectives=targets,
    budget=st.floats(0.3, 60),
    more=st.floats(1.0, 5),
)
@budgeted
def test_a_larger_budget_is_never_worse(
    model: str, gpus: list[str], workload: Workload, objectives: Objectives, budget: float, more: float
) -> None:
    poor = answer(model, named(gpus), workload, objectives, Limits(budget_per_hour=budget))
    rich = answer(model, named(gpus), workload, objectives, Limits(budget_per_hour=budget * more))
    if poor is None:
        return
    assert poor.cost.per_hour <= budget + CENT
    assert rich is not None
    if "the limits allow" not in poor.confidence_why:
        assert rich.cost.per_hour <= poor.cost.per_hour + CENT


@given(model=models, gpu=st.sampled_from(GPUS), workload=workloads, objectives=targets, larger=st.floats(1.0, 4.0))
@budgeted
def test_more_memory_never_fits_less_and_never_costs_more(
    model: str, gpu: str, workload: Workload, objectives: Objectives, larger: float
) -> None:
    small = accelerator(gpu)
    large = replace(small, memory_gib=small.memory_gib * larger)
    before = answer(model, [small], workload, objectives, Limits())
    after = answer(model, [large], workload, objectives, Limits())
    if before is not None:
        assert after is not None
        assert after.cost.per_hour <= before.cost.per_hour + CENT


@given(model=models, gpus=kinds, workload=workloads, objectives=targets, limit=limits)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)
def test_pruning_loses_nothing(
    model: str, gpus: list[str], workload: Workload, objectives: Objectives, limit: Limits
) -> None:
    ask = asked(ModelFacts.load(model), named(gpus[:2]), workload, objectives, limit, None)
    tried = []
    for place in places(ask)[0]:
        candidate = fitted(ask, place)
        if candidate.refused:
            continue
        usable = [c for tokens in token_budgets(ask) if (c := with_budget(ask, candidate, tokens)).sized]
        if usable:
            tried.append(best_budget(usable))
    best = explore(ask).best
    assert (best is None) == (not tried)
    if best is not None:
        assert preference(best)[:3] == min(preference(candidate) for candidate in tried)[:3]


def test_a_control_that_a_tighter_objective_does_cost_more() -> None:
    model, gpus = MODELS[1], ["H100"]
    workload = Workload(1000, 250, requests_per_second=60)
    loose = answer(model, named(gpus), workload, Objectives(tpot=0.1), Limits())
    strict = answer(model, named(gpus), workload, Objectives(tpot=0.012), Limits())
    assert loose is not None
    assert strict is not None
    assert strict.cost.per_hour > loose.cost.per_hour


@pytest.mark.parametrize("name", ["Qwen/Qwen3-235B-A22B-FP8", "deepseek-ai/DeepSeek-V3"])
def test_large_models_are_sized(name: str) -> None:
    found = answer(
        name,
        named(["H200"]),
        Workload(1000, 200, requests_per_second=2),
        Objectives(2, 0.1),
        Limits(),
    )
    assert found is not None
    assert memory_ledger(ModelFacts.load(name), found.accelerator, found.config).fits
