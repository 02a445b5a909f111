"""Metrics as text and as mappings."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import ModelFacts, RecommenderError, Workload, accelerator, observe
from plimsoll_recommender.observation.metrics import Exposition, capacity_of, operation_of, samples

TEXT = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-32B"} 12.0
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-32B"} 0.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",gpu_memory_utilization="0.92",num_gpu_blocks="2588",\
kv_cache_size_tokens="41408",kv_cache_max_concurrency="1.26",num_gpu_blocks_override="None",sliding_window="None"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.25",model_name="Qwen/Qwen3-32B"} 80.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="Qwen/Qwen3-32B"} 20.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="Qwen/Qwen3-32B"} 100.0
vllm:time_to_first_token_seconds_created{engine="0",model_name="Qwen/Qwen3-32B"} 1.79e9
vllm:inter_token_latency_seconds_sum{engine="0",model_name="Qwen/Qwen3-32B"} 600.0
vllm:inter_token_latency_seconds_count{engine="0",model_name="Qwen/Qwen3-32B"} 20000.0
vllm:request_prompt_tokens_sum{engine="0",model_name="Qwen/Qwen3-32B"} 100000.0
vllm:request_prompt_tokens_count{engine="0",model_name="Qwen/Qwen3-32B"} 100.0
vllm:request_generation_tokens_sum{engine="0",model_name="Qwen/Qwen3-32B"} 20000.0
vllm:request_generation_tokens_count{engine="0",model_name="Qwen/Qwen3-32B"} 100.0
vllm:prefix_cache_queries_total{engine="0",model_name="Qwen/Qwen3-32B"} 100000.0
vllm:prefix_cache_hits_total{engine="0",model_name="Qwen/Qwen3-32B"} 25000.0
"""

FACTS = ModelFacts.load("Qwen/Qwen3-32B")
H100 = accelerator("H100")


def test_text_is_read() -> None:
    seen = Exposition.of(samples(TEXT))
    ran, held = operation_of(seen), capacity_of(seen)
    assert (ran.ttft, ran.tpot, ran.input_tokens, ran.output_tokens) == (0.2, 0.03, 1000.0, 200.0)
    assert (ran.running, ran.waiting, ran.requests, ran.prefix_hit_ratio) == (12.0, 0.0, 100.0, 0.25)
    assert (held.kv_cache_blocks, held.kv_cache_tokens, held.block_size) == (2588, 41_408, 16)
    assert held.gpu_memory_utilization == 0.92
    assert not held.kv_cache_stated
    assert held.model == "Qwen/Qwen3-32B"


@pytest.mark.parametrize(
    "name", ["vllm:time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds"], ids=str
)
def test_other_releases_names_of_tpot_are_read(name: str) -> None:
    text = TEXT.replace("vllm:inter_token_latency_seconds", name)
    assert operation_of(Exposition.of(samples(text))).tpot == 0.03


def test_data_parallel_engines_are_added_up() -> None:
    both = TEXT + TEXT.replace('engine="0"', 'engine="1"')
    assert operation_of(Exposition.of(samples(both))).running == 24.0


def test_counters_are_taken_since_an_earlier_scrape() -> None:
    earlier = TEXT.replace(" 20.0\n", " 10.0\n").replace(" 100.0\n", " 80.0\n")
    seen = observe(TEXT, since=earlier, facts=FACTS, gpu=H100)
    assert seen.operation.ttft == pytest.approx(10.0 / 20)


def test_a_restart_between_scrapes_counts_from_zero() -> None:
    later = Exposition.of(samples(TEXT))
    before = Exposition({"vllm:time_to_first_token_seconds_count": 900.0}, {}, None)
    assert later.since(before).totals["vllm:time_to_first_token_seconds_count"] == 100.0


def test_a_mapping_with_plain_names_is_read() -> None:
    seen = observe(
        {"ttft": 0.2, "tpot": 0.03, "kv_cache_tokens": 41_408, "running": None, "note": "text"},
        facts=FACTS,
        gpu=H100,
        workload=Workload(1000, 200, concurrency=12),
        percentile=95,
    )
    assert seen.operation.percentile == 95
    assert seen.start_up.kv_cache_tokens == 41_408


def test_the_counts_of_a_whole_service_are_divided_by_its_engines() -> None:
    observed = {
        "requests_per_second": Decimal(6),
        "running": Decimal(48),
        "waiting": None,
        "ttft": timedelta(milliseconds=300),
        "tpot": timedelta(milliseconds=30),
        "input_tokens_mean": Decimal(1000),
        "output_tokens_mean": Decimal(200),
    }
    seen = observe(observed, facts=FACTS, gpu=H100, percentile=95, replicas=4)
    assert seen.workload == Workload(1000, 200, requests_per_second=1.5)
    assert (seen.operation.running, seen.operation.ttft) == (12, 0.3)
    with pytest.raises(RecommenderError, match="replicas must be at least 1"):
        observe(observed, facts=FACTS, gpu=H100, replicas=0)


def test_a_mapping_with_vllms_names_is_read() -> None:
    metrics = {
        "vllm:time_to_first_token_seconds_sum": 20.0,
        "vllm:time_to_first_token_seconds_count": 100,
        "vllm:cache_config_info": {"num_gpu_blocks": "2588", "block_size": 16},
    }
    seen = observe(metrics, facts=FACTS, gpu=H100)
    assert (seen.operation.ttft, seen.start_up.kv_cache_blocks) == (0.2, 2588)


@pytest.mark.parametrize("nothing", ["", "not a log", {}, {"ttft": float("nan")}, ["x", "y"]], ids=repr)
def test_nothing_to_observe_is_said_in_one_line(nothing: object) -> None:
    with pytest.raises(RecommenderError, match=r"^nothing of vLLM") as caught:
        observe(nothing, facts=FACTS, gpu=H100)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_what_vllm_does_not_name_must_be_given() -> None:
    with pytest.raises(RecommenderError, match="GPU is not named"):
        observe(TEXT, facts=FACTS)
    with pytest.raises(RecommenderError, match="model is not named"):
        observe({"kv_cache_tokens": 41_408}, gpu=H100)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    operation_of(Exposition.of(samples(text)))


@settings(deadline=None)
@given(st.integers(0, len(TEXT)))
def test_a_cut_scrape_is_read_without_an_error(kept: int) -> None:
    operation_of(Exposition.of(samples(TEXT[:kept])))
