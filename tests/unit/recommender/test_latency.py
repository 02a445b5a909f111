"""Step times and predictions: physics they cannot break, and a few published measurements."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import (
    EngineConfig,
    InfeasibleError,
    ModelFacts,
    Objectives,
    RecommenderError,
    StepLoad,
    StepTimeModel,
    Workload,
    accelerator,
    predict,
)
from plimsoll_recommender.latency.distributions import quantile, variation_of

H100 = accelerator("H100")
QWEN = ModelFacts.load("Qwen/Qwen3-32B")


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B", "openai/gpt-oss-20b", "Qwen/Qwen3.5-27B"])
@given(
    prefill=st.integers(0, 8192),
    decode=st.integers(0, 512),
    context=st.integers(1, 32_768),
    more=st.integers(0, 1024),
)
@settings(max_examples=40, deadline=None)
def test_more_work_never_takes_less_time(name: str, prefill: int, decode: int, context: int, more: int) -> None:
    model = StepTimeModel.for_engine(ModelFacts.load(name), H100, EngineConfig(tensor_parallel_size=2))
    base = StepLoad(prefill, prefill * context, decode, decode * context, decode)
    time = model.seconds(base)
    assert 0 < time < 60
    assert model.seconds(StepLoad(prefill + more, (prefill + more) * context, decode, decode * context, decode)) >= time
    both = decode + more
    assert model.seconds(StepLoad(prefill, prefill * context, both, both * context, both)) >= time


def test_decoding_one_sequence_is_bound_by_weights() -> None:
    """The floor: all weights cross the memory bus once per token."""
    facts = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
    seconds = StepTimeModel.for_engine(facts, H100, EngineConfig()).seconds(StepLoad(0, 0, 1, 1000, 1))
    floor = facts.active_parameters * 2 / H100.memory_bandwidth
    assert floor < seconds < 2 * floor


@pytest.mark.parametrize(
    ("tensor", "length", "concurrency", "tpot"),
    [
        # vLLM 0.12.0 on H100 SXM, bf16, 1024 tokens out; ai-dynamo/aiconfigurator (Apache-2.0).
        (2, 1024, 16, 0.01738),
        (4, 1024, 64, 0.01731),
        (8, 1024, 128, 0.01928),
        (4, 4096, 32, 0.01872),
        (8, 4096, 64, 0.01898),
    ],
)
def test_tpot_of_qwen3_32b_is_near_the_measured(tensor: int, length: int, concurrency: int, tpot: float) -> None:
    config = EngineConfig(tensor_parallel_size=tensor, engine_version="0.12.0", max_model_len=8192)
    found = predict(QWEN, H100, config, Workload(length, 1024, concurrency=concurrency))
    assert found.tpot.mean == pytest.approx(tpot, rel=0.2)


@given(rate=st.floats(0.01, 0.9), more=st.floats(1.01, 1.1))
@settings(max_examples=40, deadline=None)
def test_a_higher_rate_is_never_faster(rate: float, more: float) -> None:
    config = EngineConfig(tensor_parallel_size=2, max_num_seqs=128, max_model_len=8192)
    line = predict(QWEN, H100, config, Workload(1000, 250)).load_line_rps
    slow, fast = (
        predict(QWEN, H100, config, Workload(1000, 250, requests_per_second=value * line))
        for value in (rate, rate * more)
    )
    assert fast.ttft.mean >= slow.ttft.mean * 0.999
    assert fast.tpot.mean >= slow.tpot.mean * 0.999
    assert slow.throughput.requests_per_second == pytest.approx(rate * line, rel=1e-3)


def test_more_than_the_replica_carries_is_said() -> None:
    config = EngineConfig(tensor_parallel_size=2, max_model_len=8192)
    line = predict(QWEN, H100, config, Workload(1000, 250)).load_line_rps
    found = predict(QWEN, H100, config, Workload(1000, 250, requests_per_second=2 * line))
    assert found.saturated
    assert math.isinf(found.ttft.mean)
    assert found.throughput.requests_per_second == pytest.approx(line, rel=0.01)


def test_a_closed_loop_obeys_littles_law() -> None:
    config = EngineConfig(tensor_parallel_size=4, max_model_len=8192)
    found = predict(QWEN, H100, config, Workload(1024, 512, concurrency=64))
    assert found.throughput.requests_per_second * found.e2e.mean == pytest.approx(64, rel=0.1)


def test_the_load_line_meets_its_objectives_and_a_tighter_one_carries_less() -> None:
    config = EngineConfig(tensor_parallel_size=2, max_model_len=8192)
    lines = []
    for tpot in (0.1, 0.05, 0.03, 0.02):
        objectives = Objectives(ttft=2.0, tpot=tpot)
        line = predict(QWEN, H100, config, Workload(1000, 250), objectives).load_line_rps
        at_line = predict(QWEN, H100, config, Workload(1000, 250, requests_per_second=line * 0.999), objectives)
        assert at_line.ttft.p95 <= 2.0 * 1.01
        assert at_line.tpot.p95 <= tpot * 1.01
        lines.append(line)
    assert lines == sorted(lines, reverse=True)


def test_data_parallel_ranks_share_the_load() -> None:
    one, two = (
        predict(
            QWEN,
            H100,
            EngineConfig(tensor_parallel_size=2, data_parallel_size=ranks, max_model_len=8192),
            Workload(1024, 512, concurrency=32 * ranks),
        )
        for ranks in (1, 2)
    )
    assert two.tpot.mean == pytest.approx(one.tpot.mean)
    assert two.throughput.requests_per_second == pytest.approx(2 * one.throughput.requests_per_second)


def test_prefix_hits_shorten_prefill() -> None:
    config = EngineConfig(tensor_parallel_size=2, max_model_len=16_384)
    cold, warm = (
        predict(QWEN, H100, config, Workload(8000, 100, concurrency=8, prefix_hit_ratio=ratio)) for ratio in (0.0, 0.8)
    )
    assert warm.ttft.mean < 0.6 * cold.ttft.mean


def test_an_engine_that_does_not_start_is_not_predicted() -> None:
    with pytest.raises(InfeasibleError, match="GiB of weights"):
        predict(QWEN, accelerator("L4"), EngineConfig(), Workload())


@given(mean=st.floats(1, 1e5), ratio=st.floats(1.0, 3.5))
@settings(max_examples=50, deadline=None)
def test_the_spread_reproduces_the_p95(mean: float, ratio: float) -> None:
    assert quantile(mean, variation_of(mean, mean * ratio), 95) == pytest.approx(mean * ratio, rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_tokens": 0},
        {"output_tokens": -1},
        {"requests_per_second": -4.0},
        {"requests_per_second": math.nan},
        {"concurrency": 0},
        {"concurrency": 4, "requests_per_second": 4},
        {"burstiness": -1},
        {"prefix_hit_ratio": 1.0},
        {"input_tokens": 100, "input_tokens_p95": 50},
    ],
)
def test_impossible_workloads_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(RecommenderError) as refused:
        Workload(**arguments)
    assert any(name in str(refused.value) for name in arguments)


@pytest.mark.parametrize("arguments", [{"ttft": 0}, {"tpot": -1}, {"percentile": 20}, {"ttft": 2, "e2e": 1}])
def test_impossible_objectives_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(RecommenderError):
        Objectives(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tensor_parallel_size": 0},
        {"max_num_seqs": 0},
        {"max_num_seqs": 512, "max_num_batched_tokens": 256},
        {"gpu_memory_utilization": 1.2},
        {"max_model_len": -5},
        {"dtype": "int2"},
        {"kv_cache_dtype": "fp3"},
        {"engine_version": "newest"},
        {"tensor_parallel_size": "2"},
    ],
)
def test_impossible_engine_settings_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(RecommenderError) as refused:
        EngineConfig(**arguments)  # type: ignore[arg-type]
    assert any(name in str(refused.value) for name in arguments)
