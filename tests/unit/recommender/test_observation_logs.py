"""Start-up logs of several releases, and what happens to them on the way."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender.observation.observed import StartUp
from plimsoll_recommender.observation.startup_log import read_start_up


@dataclass(frozen=True)
class Log:
    """Lines of a real start, and what they say."""

    release: str
    lines: tuple[str, ...]
    says: dict[str, object]


LOGS = (
    Log(
        "0.7 (V0)",
        (
            "INFO 03-01 10:30:55 model_runner.py:1115] Loading model weights took 2.8797 GB",
            "INFO 03-01 10:30:57 worker.py:267] Memory profiling takes 1.48 seconds",
            "INFO 03-01 10:30:57 worker.py:267] the current vLLM instance can use total_gpu_memory (22.06GiB) x "
            "gpu_memory_utilization (0.90) = 19.85GiB",
            "INFO 03-01 10:30:57 worker.py:267] model weights take 2.88GiB; non_torch_memory takes 0.05GiB; PyTorch "
            "activation peak memory takes 1.40GiB; the rest of the memory reserved for KV Cache is 15.52GiB.",
            "INFO 03-01 10:30:57 executor_base.py:110] # CUDA blocks: 36332, # CPU blocks: 9362",
            "INFO 03-01 10:30:57 executor_base.py:115] Maximum concurrency for 4096 tokens per request: 141.92x",
            "INFO 03-01 10:31:18 model_runner.py:1562] Graph capturing finished in 19 secs, took 0.18 GiB",
        ),
        {
            "weights_gib": 2.88,
            "non_torch_gib": 0.05,
            "activation_peak_gib": 1.40,
            "kv_cache_gib": 15.52,
            "kv_cache_blocks": 36_332,
            "gpu_total_gib": 22.06,
            "requested_gib": 19.85,
            "gpu_memory_utilization": 0.90,
            "max_model_len": 4096,
            "max_concurrency": 141.92,
            "cuda_graphs_gib": 0.18,
        },
    ),
    Log(
        "0.10.2",
        (
            "(EngineCore_0 pid=357) INFO [core.py] Initializing a V1 LLM engine (v0.10.2) with config: "
            "model='TinyLlama/TinyLlama-1.1B-Chat-v1.0', speculative_config=None, dtype=torch.bfloat16, "
            "max_seq_len=2048, tensor_parallel_size=1, pipeline_parallel_size=1, disable_custom_all_reduce=False, "
            "quantization=None, enforce_eager=True, kv_cache_dtype=auto, device_config=cuda",
            "(EngineCore_DP0 pid=357) INFO [gpu_worker.py] Available KV cache memory: 55.15 GiB",
            "(EngineCore_DP0 pid=357) INFO [kv_cache_utils.py] GPU KV cache size: 451,744 tokens",
            "(EngineCore_DP0 pid=357) INFO [gpu_worker.py] Free memory on device (78.66/79.19 GiB) "
            "on startup. Desired GPU memory utilization is (0.9, 71.27 GiB). Actual usage is 14.08 GiB for weight, "
            "1.97 GiB for peak activation, 0.07 GiB for non-torch memory, and 0.67 GiB for CUDAGraph memory. Replace "
            "gpu_memory_utilization config with `--kv-cache-memory=58333988249` to fit into requested memory. Current "
            "kv cache memory in use is 59212694937 bytes.",
        ),
        {
            "engine_version": "0.10.2",
            "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            "enforce_eager": True,
            "max_model_len": 2048,
            "weights_gib": 14.08,
            "kv_cache_gib": 55.15,
            "kv_cache_tokens": 451_744,
            "gpu_total_gib": 79.19,
            "requested_gib": 71.27,
            "cuda_graphs_gib": 0.67,
        },
    ),
    Log(
        "0.19 at DEBUG",
        (
            "INFO [gpu_model_runner.py] Model loading took 14.99 GiB memory and 14.429680 seconds",
            "DEBUG [gpu_worker.py] Memory profiling takes 17.96 seconds. Total non KV cache memory: 17.12GiB; torch "
            "peak memory increase: 1.89GiB; non-torch forward increase memory: 0.25GiB; weights memory: 14.99GiB.",
            "INFO [gpu_worker.py] Available KV cache memory: 58.11 GiB",
            "INFO [kv_cache_utils.py] GPU KV cache size: 476,016 tokens",
            "INFO [kv_cache_utils.py] Maximum concurrency for 8,192 tokens per request: 58.11x",
            "INFO [gpu_worker.py] CUDA graph pool memory: 0.91 GiB (actual), 0.84 GiB (estimated), difference: 0.07 "
            "GiB (7.7%).",
            "INFO [loggers.py] Engine 000: vllm cache_config_info with initialization after num_gpu_blocks is: 29751",
        ),
        {
            "weights_gib": 14.99,
            "activation_peak_gib": 1.89,
            "non_torch_gib": 0.25,
            "kv_cache_gib": 58.11,
            "kv_cache_tokens": 476_016,
            "kv_cache_blocks": 29_751,
            "cuda_graphs_gib": 0.91,
            "cuda_graphs_estimate_gib": 0.84,
        },
    ),
    Log(
        "0.33",
        (
            "(EngineCore pid=326) INFO [model_runner.py] Model loading took 15.0 GiB memory and 5.42 seconds",
            "(EngineCore pid=326) INFO [gpu_worker.py] Estimated CUDA graph memory: 0.37 GiB total",
            "(EngineCore pid=326) INFO [gpu_worker.py] Available KV cache memory: 56.21 GiB",
            "(EngineCore pid=326) INFO [kv_cache_utils.py] GPU KV cache size: 460,496 tokens, Maximum "
            "concurrency for 131,072 tokens per request: 3.51x",
            "(EngineCore pid=326) INFO [gpu_worker.py] Free memory on device (78.84/79.25 GiB) on "
            "startup. Desired GPU memory utilization is (0.92, 72.91 GiB). Actual usage is 15.26 GiB for consumed "
            "memory (weights + non-torch), 1.44 GiB for peak activation, and 0.23 GiB for CUDAGraph memory.",
        ),
        {
            "weights_gib": 15.0,
            "consumed_gib": 15.26,
            "activation_peak_gib": 1.44,
            "cuda_graphs_estimate_gib": 0.37,
            "cuda_graphs_gib": 0.23,
            "kv_cache_gib": 56.21,
            "kv_cache_tokens": 460_496,
            "max_model_len": 131_072,
            "gpu_memory_utilization": 0.92,
        },
    ),
)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.release)
def test_a_releases_wording_is_read(log: Log) -> None:
    seen = read_start_up("\n".join(log.lines))
    assert {name: getattr(seen, name) for name in log.says} == log.says
    assert seen.contradictions == ()


def test_a_log_of_something_else_says_nothing() -> None:
    assert read_start_up("INFO: Uvicorn running\nGET /health 200\n\x00\xff") == StartUp()


def test_ranks_are_merged_by_what_limits() -> None:
    seen = read_start_up(
        "(Worker_TP0_EP0 pid=11) INFO [gpu_model_runner.py] Model loading took 7.51 GiB memory and 9 seconds\n"
        "(Worker_TP1_EP1 pid=12) INFO [gpu_model_runner.py] Model loading took 7.52 GiB memory and 9 seconds\n"
        "(Worker_TP1_EP1 pid=12) INFO [gpu_worker.py] Available KV cache memory: 17.73 GiB\n"
        "(Worker_TP0_EP0 pid=11) INFO [gpu_worker.py] Available KV cache memory: 18.04 GiB\n"
    )
    assert (seen.weights_gib, seen.kv_cache_gib) == (7.52, 17.73)
    assert seen.contradictions == ()


def test_ranks_that_differ_are_reported() -> None:
    seen = read_start_up(
        "(Worker_TP0 pid=11) INFO Available KV cache memory: 17.73 GiB\n"
        "(Worker_TP1 pid=12) INFO Available KV cache memory: 9.04 GiB\n"
    )
    assert seen.contradictions == ("ranks report kv_cache_gib from 9.04 to 17.73",)


def test_of_several_starts_the_last_measured_one_counts() -> None:
    first = "INFO vLLM API server version 0.19.0\nINFO Available KV cache memory: 40.0 GiB\n"
    second = "INFO vLLM API server version 0.20.1\nINFO Available KV cache memory: 41.5 GiB\n"
    died = "INFO vLLM API server version 0.21.0\nERROR no GPU\n"
    seen = read_start_up(first + second + died)
    assert (seen.engine_version, seen.kv_cache_gib) == ("0.20.1", 41.5)


def test_impossible_figures_are_dropped_and_said() -> None:
    seen = read_start_up(
        "INFO Available KV cache memory: -0.12 GiB\n"
        "INFO Desired GPU memory utilization is (0.9, 40.00 GiB). Free memory on device (78.6/79.19 GiB)\n"
    )
    assert seen.kv_cache_gib is None
    assert len(seen.contradictions) == 2
    assert "kv_cache_gib is -0.12" in seen.contradictions[0]
    assert "requested 40 GiB is not 0.9 of 79.19 GiB" in seen.contradictions[1]


def test_a_cache_sized_by_hand_is_marked() -> None:
    seen = read_start_up(
        "INFO Initial free memory 77.91 GiB, reserved 5.32 GiB memory for KV Cache as specified by "
        "kv_cache_memory_bytes config and skipped memory profiling."
    )
    assert seen.kv_cache_stated
    assert seen.kv_cache_gib == 5.32


NOISE = st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r"), max_size=60)


@pytest.mark.parametrize(("before", "by_hand"), [(0, False), (2588, True)])
def test_blocks_are_by_hand_only_when_some_were_replaced(before: int, by_hand: bool) -> None:
    seen = read_start_up(
        f"INFO [kv_cache_utils.py] Overriding num_gpu_blocks={before} with num_gpu_blocks_override=512\n"
        "INFO [gpu_model_runner.py] Estimated CUDA graph memory: 0.78 GiB total\n"
        "INFO [gpu_worker.py] Available KV cache memory: 20.27 GiB\n"
    )
    assert seen.kv_cache_stated is by_hand


@settings(deadline=None)
@given(st.sampled_from(LOGS), st.lists(NOISE, max_size=12), st.randoms(use_true_random=False))
def test_colour_and_other_lines_between_change_nothing(log: Log, noise: list[str], random: object) -> None:
    assert hasattr(random, "randint")
    plain = read_start_up("\n".join(log.lines))
    lines = [f"\x1b[32m{line}\x1b[0m" for line in log.lines]
    for text in noise:
        # A digit-free line, so that chance cannot write one of the engine's own.
        lines.insert(random.randint(0, len(lines)), "".join(c for c in text if not c.isdigit()))
    assert read_start_up(lines) == plain


@settings(deadline=None)
@given(st.sampled_from(LOGS), st.integers(0, 1500))
def test_a_cut_log_says_less_and_nothing_else(log: Log, kept: int) -> None:
    text = "\n".join(log.lines)
    cut, whole = read_start_up(text[:kept].rpartition("\n")[0]), read_start_up(text)
    for field in fields(StartUp):
        value = getattr(cut, field.name)
        if field.name not in ("contradictions", "weights_gib"):
            assert value in (None, False, getattr(whole, field.name))


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    read_start_up(text)
