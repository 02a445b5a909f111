"""Observations through to ledgers and predictions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import (
    Corrections,
    EngineConfig,
    ModelFacts,
    Objectives,
    Workload,
    accelerator,
    corrected_ledger,
    corrected_predict,
    memory_ledger,
    observe,
    predict,
)
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.memory.ledger import MemoryLedger
from plimsoll_recommender.observation.apply import corrected_replica
from plimsoll_recommender.observation.corrections import Record
from plimsoll_recommender.observation.quantities import Key, Load, Quantity
from plimsoll_recommender.observation.step_time import LOADS

FACTS = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
H100 = accelerator("H100")
CONFIG = EngineConfig(
    gpu_memory_utilization=0.95,
    max_model_len=8192,
    max_num_seqs=1024,
    max_num_batched_tokens=8192,
    engine_version="0.19.0",
)
KEY = Key(FACTS.name, H100.product, "0.19.0")
BUSY = Workload(1000, 200, concurrency=32)


def log(weights: float = 14.99, kv: float = 58.11, total: float = 79.19, share: float = 0.95) -> str:
    """A start-up of Llama-3.1-8B on H100 with vLLM 0.19 (llm-d-planner pull request 205, Apache-2.0)."""
    return (
        "INFO [core.py] Initializing a V1 LLM engine (v0.19.0) with config: model='meta-llama/Llama-3.1-8B-Instruct', "
        "max_seq_len=8192, tensor_parallel_size=1, pipeline_parallel_size=1, kv_cache_dtype=auto, x\n"
        f"INFO [gpu_model_runner.py] Model loading took {weights} GiB memory and 14.4 seconds\n"
        f"INFO [gpu_worker.py] Available KV cache memory: {kv} GiB\n"
        f"INFO [gpu_worker.py] Free memory on device (78.6/{total} GiB) on startup. Desired GPU memory utilization is "
        f"({share}, {total * share:.2f} GiB).\n"
    )


def observed(text: str) -> Corrections:
    return Corrections().with_observation(observe(text, facts=FACTS, gpu=H100, config=CONFIG))


def test_nothing_observed_changes_nothing() -> None:
    assert corrected_ledger(FACTS, H100, CONFIG) == memory_ledger(FACTS, H100, CONFIG)
    assert corrected_ledger(FACTS, H100, CONFIG, Corrections()) == memory_ledger(FACTS, H100, CONFIG)
    assert corrected_predict(FACTS, H100, CONFIG, BUSY) == predict(FACTS, H100, CONFIG, BUSY)
    assert corrected_predict(FACTS, H100, CONFIG, BUSY, None, Corrections()) == predict(FACTS, H100, CONFIG, BUSY)


def test_the_next_ledger_has_the_kv_cache_that_was_observed() -> None:
    known = observed(log(weights=15.4, kv=56.90, total=79.10))
    ledger = corrected_ledger(FACTS, H100, CONFIG, known)
    assert ledger.kv_cache_gib == pytest.approx(56.90, rel=0.002)
    assert ledger.weights_gib == pytest.approx(15.4, rel=0.002)
    assert ledger.gpu_total_gib == pytest.approx(79.10, rel=0.001)
    assert ledger.kv_cache_low_gib <= 56.90 <= ledger.kv_cache_high_gib
    parts = ledger.weights_gib + ledger.activation_peak_gib + ledger.non_torch_gib + ledger.kv_cache_gib
    assert parts == pytest.approx(ledger.requested_gib, abs=0.01)


def test_other_utilization_uses_the_same_correction() -> None:
    known = observed(log(kv=57.0))
    other = EngineConfig(**{**vars(CONFIG), "gpu_memory_utilization": 0.85})
    lost = memory_ledger(FACTS, H100, CONFIG).kv_cache_gib - 57.0
    after = memory_ledger(FACTS, H100, other).kv_cache_gib - corrected_ledger(FACTS, H100, other, known).kv_cache_gib
    assert after == pytest.approx(lost, abs=0.05)


def test_graphs_that_do_not_fit_beside_the_budget_are_refused() -> None:
    assert memory_ledger(FACTS, H100, CONFIG).fits
    known = Corrections((Record(KEY, Quantity.GRAPHS, 2.0, 0.1),))
    ledger = corrected_ledger(FACTS, H100, CONFIG, known)
    assert not ledger.fits
    assert "graphs as observed need" in ledger.reason


def test_the_error_is_reported_before_and_after() -> None:
    (row,) = observed(log(kv=55.0)).report()
    assert row.what == "KV cache, GiB"
    assert abs(row.error_before) > 4
    assert abs(row.error_after) < 0.3


def test_an_implausible_start_is_reported_and_not_learned() -> None:
    seen = observe(log(weights=1.499), facts=FACTS, gpu=H100, config=CONFIG)
    assert any("weights is 1.50 GiB" in text for text in seen.contradictions)
    assert Quantity.WEIGHTS not in {item.quantity for item in seen.evidence}


def test_what_the_engine_states_comes_before_what_was_given() -> None:
    seen = observe(log(share=0.9, kv=54.15), facts=FACTS, gpu=H100, config=CONFIG)
    assert seen.config.gpu_memory_utilization == 0.9
    assert seen.contradictions == ("gpu_memory_utilization is 0.9 in the engine and 0.95 in the configuration given",)


def test_a_cache_sized_by_hand_teaches_nothing_of_the_rest() -> None:
    text = "INFO reserved 5.32 GiB memory for KV Cache as specified by kv_cache_memory_bytes config\n"
    seen = observe(text, facts=FACTS, gpu=H100, config=CONFIG)
    assert seen.evidence == ()
    assert Corrections().with_observation(seen).report() == ()


@pytest.mark.parametrize("concurrency", [1, 32, 200])
def test_the_next_prediction_has_the_latency_that_was_observed(concurrency: int) -> None:
    busy = Workload(1000, 200, concurrency=concurrency)
    plain = predict(FACTS, H100, CONFIG, busy)
    measured = {"tpot": plain.tpot.mean * 1.2, "ttft": plain.ttft.mean * 1.3, "requests": 5000}
    seen = observe(measured, facts=FACTS, gpu=H100, config=CONFIG, workload=busy)
    known = Corrections().with_observation(seen)
    after = corrected_predict(FACTS, H100, CONFIG, busy, corrections=known)
    assert after.tpot.mean == pytest.approx(measured["tpot"], rel=0.05)
    assert abs(after.ttft.mean / measured["ttft"] - 1) < abs(plain.ttft.mean / measured["ttft"] - 1)
    assert [row.what for row in known.report()] == ["TPOT, s", "TTFT, s"]
    assert all(abs(row.error_after) < abs(row.error_before) for row in known.report())


def test_an_observed_prediction_is_more_certain() -> None:
    plain = predict(FACTS, H100, CONFIG, BUSY)
    measured = {"tpot": plain.tpot.mean * 1.1, "requests": 5000}
    seen = observe(measured, facts=FACTS, gpu=H100, config=CONFIG, workload=BUSY)
    after = corrected_predict(FACTS, H100, CONFIG, BUSY, corrections=Corrections().with_observation(seen))
    assert after.tpot.high / after.tpot.low < 0.9 * plain.tpot.high / plain.tpot.low
    assert after.tpot.low < measured["tpot"] < after.tpot.high
    assert after.ttft.high / after.ttft.low == pytest.approx(plain.ttft.high / plain.ttft.low)


def test_a_saturated_ttft_is_not_learned_from() -> None:
    busy = Workload(1000, 200, concurrency=5000)
    seen = observe({"ttft": 30.0, "tpot": 0.05}, facts=FACTS, gpu=H100, config=CONFIG, workload=busy)
    assert {item.quantity for item in seen.evidence} <= {Quantity.DECODE}
    assert any("waiting for a slot" in text for text in seen.contradictions)


def test_a_rising_load_is_not_learned_from() -> None:
    rising = {"tpot": 0.015, "running": 30, "started": 90, "requests": 20, "input_tokens": 900, "output_tokens": 200}
    seen = observe(rising, facts=FACTS, gpu=H100, config=CONFIG)
    assert seen.evidence == ()
    assert seen.contradictions == ("the load was rising (90 requests started, 20 ended): not learned",)
    steady = observe({**rising, "started": 25}, facts=FACTS, gpu=H100, config=CONFIG)
    assert [item.quantity for item in steady.evidence] == [Quantity.DECODE]


def test_latency_without_its_traffic_is_not_learned_from() -> None:
    seen = observe({"ttft": 0.3, "tpot": 0.02}, facts=FACTS, gpu=H100, config=CONFIG)
    assert seen.evidence == ()
    assert any("give the workload" in text for text in seen.contradictions)


def test_an_open_loop_is_corrected_too() -> None:
    known = Corrections((Record(KEY, Quantity.DECODE, 0.3, 0.03, Load.of(16, 1000)),))
    open_loop = Workload(1000, 200, requests_per_second=4)
    slower = corrected_predict(FACTS, H100, CONFIG, open_loop, Objectives(tpot=0.02), known)
    plain = predict(FACTS, H100, CONFIG, open_loop, Objectives(tpot=0.02))
    assert slower.tpot.mean > plain.tpot.mean
    assert slower.load_line_rps < plain.load_line_rps


def test_data_parallel_ranks_are_added_up() -> None:
    config = EngineConfig(**{**vars(CONFIG), "data_parallel_size": 2})
    known = Corrections((Record(KEY, Quantity.DECODE, 1e-9, 0.03, Load.of(16, 1000)),))
    both, plain = corrected_predict(FACTS, H100, config, BUSY, None, known), predict(FACTS, H100, config, BUSY)
    assert both.throughput.requests_per_second == pytest.approx(plain.throughput.requests_per_second, rel=1e-6)
    assert both.running == pytest.approx(plain.running, rel=1e-6)


def consistent(ledger: MemoryLedger) -> bool:
    """Whether no part of a ledger is negative or endless."""
    names = ("gpu_total_gib", "requested_gib", "weights_gib", "activation_peak_gib", "non_torch_gib", "cuda_graphs_gib",
             "kv_cache_gib", "kv_cache_low_gib", "kv_cache_high_gib", "kv_cache_blocks", "kv_cache_tokens")  # fmt: skip
    return all(0 <= getattr(ledger, name) < math.inf for name in names)


evidence = st.lists(
    st.builds(
        Record,
        st.just(KEY),
        st.sampled_from([Quantity.GPU_TOTAL, Quantity.WEIGHTS, Quantity.OVERHEAD, Quantity.GRAPHS]),
        st.floats(-2.3, 2.3),
        st.floats(0.001, 0.5),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(evidence, st.sampled_from([1, 2]), st.sampled_from(["0.19.0", "0.33.0"]), st.sampled_from(["H100", "L4"]))
def test_no_correction_makes_a_ledger_negative(found: list[Record], stages: int, release: str, name: str) -> None:
    gpu = accelerator(name)
    config = EngineConfig(
        **{**vars(CONFIG), "pipeline_parallel_size": stages, "engine_version": release, "max_model_len": 2048}
    )
    of_gpu = tuple(
        Record(Key(FACTS.name, gpu.product, release), item.quantity, item.value, item.noise) for item in found
    )
    ledger = corrected_ledger(FACTS, gpu, config, Corrections(of_gpu))
    assert consistent(ledger)
    if not ledger.fits:
        assert "\n" not in ledger.reason


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.builds(
            Record,
            st.just(KEY),
            st.sampled_from([Quantity.DECODE, Quantity.PREFILL]),
            st.floats(-1.2, 1.2),
            st.floats(0.01, 0.5),
            st.builds(Load.of, st.sampled_from([1.0, 8.0, 64.0, 512.0]), st.sampled_from([100.0, 1000.0])),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_corrected_steps_never_shorten_with_more_sequences(found: list[Record]) -> None:
    replica = Replica.of(FACTS, H100, CONFIG, Workload(1000, 200))
    corrected = corrected_replica(replica, FACTS, H100, Corrections(tuple(found)))
    steps = [corrected.model.mixed_seconds(0.0, 0.0, n, replica.decode_context) for n in LOADS]
    assert all(0 < low <= high * (1 + 1e-9) for low, high in itertools.pairwise(steps))
