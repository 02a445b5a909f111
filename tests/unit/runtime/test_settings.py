"""Flags and environment of the simulated engine, and what keeps it from starting."""

from __future__ import annotations

import dataclasses

import pytest

from plimsoll_runtime.engine import sizing
from plimsoll_runtime.engine.settings import DEFAULT_GPU, Faults, Settings, UsageError, parse

MODEL = "Qwen/Qwen2.5-7B-Instruct"


def settings(**values: object) -> Settings:
    """Settings of a model that fits."""
    return dataclasses.replace(parse([MODEL], {})[0], **values)  # type: ignore[arg-type]


def test_what_the_operator_writes_is_understood() -> None:
    given, ignored = parse(
        [
            *("serve", MODEL, "--served-model-name=chat", "--port=8000", "--tensor-parallel-size=2"),
            *("--pipeline-parallel-size=1", "--max-num-seqs=64", "--max-num-batched-tokens=4096"),
            *("--gpu-memory-utilization=0.9", "--max-model-len=8192", "--kv-cache-dtype=auto", "--shutdown-timeout=30"),
            *("--load-format=dummy", "--unknown", "7"),
        ],
        {"PLIMSOLL_BIND_ADDRESS": "127.0.0.9", "PLIMSOLL_GPU_PRODUCT": "NVIDIA-L4", "NVIDIA_VISIBLE_DEVICES": "0,1"},
    )
    assert (given.model, given.served_model_names, given.host, given.port) == (MODEL, ("chat",), "127.0.0.9", 8000)
    assert (given.tensor_parallel_size, given.max_num_seqs, given.shutdown_timeout) == (2, 64, 30)
    assert (given.gpu, given.visible_gpus) == ("NVIDIA-L4", 2)
    assert ignored == ("--load-format=dummy", "--unknown")


def test_flags_win_over_the_environment() -> None:
    variables = {"PLIMSOLL_BIND_ADDRESS": "127.0.0.9", "PLIMSOLL_GPU_PRODUCT": "NVIDIA-L4", "PLIMSOLL_SLOWDOWN": "3"}
    given, _ = parse(["--model", MODEL, "--host", "127.0.0.8", "--gpu", "H100", "--slowdown", "2"], variables)
    assert (given.host, given.gpu, given.faults.slowdown) == ("127.0.0.8", "H100", 2)
    assert parse([MODEL], variables)[0].faults.slowdown == 3


def test_defaults() -> None:
    given, ignored = parse([MODEL, "--max_model_len", "100", "--served-model-name", "a", "b"], {})
    assert (given.host, given.gpu, given.visible_gpus, ignored) == (None, DEFAULT_GPU, None, ())
    assert given.max_model_len == 100
    assert given.served_model_names == ("a", "b")
    assert parse([MODEL, "--no-enable-prefix-caching"], {})[0].enable_prefix_caching is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no model"),
        ([MODEL, "--port", "x"], "--port"),
        ([MODEL, "--slowdown", "0"], "slowdown"),
        ([MODEL, "--error-rate", "2"], "error_rate"),
        ([MODEL, "--gpu-memory-taken", "-1"], "gpu_memory_taken"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(arguments, {})


def test_plan_follows_the_memory_ledger() -> None:
    small, large = (sizing.plan(settings(gpu=gpu, max_model_len=4096)) for gpu in ("NVIDIA-L40S", "H100"))
    assert 0 < small.scheduler.kv_blocks < large.scheduler.kv_blocks
    assert large.scheduler.max_num_batched_tokens > small.scheduler.max_num_batched_tokens


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "no/such-model"}, "no/such-model"),
        ({"gpu": "no such gpu"}, "no such gpu"),
        ({"model": "meta-llama/Llama-3.1-70B-Instruct"}, "CUDA out of memory"),
        ({"gpu": "NVIDIA-L4", "gpu_memory_utilization": 0.6}, "No available memory for the cache blocks"),
        (
            {"gpu": "NVIDIA-L4", "max_model_len": 32768, "gpu_memory_utilization": 0.75},
            "estimated maximum model length",
        ),
        ({"gpu_memory_taken": 10.0, "gpu_memory_utilization": 0.95}, "less than desired GPU memory utilization"),
        ({"max_model_len": 10_000_000}, "greater than the derived max_model_len"),
        ({"tensor_parallel_size": 3}, "attention heads"),
        ({"tensor_parallel_size": 4, "visible_gpus": 2}, "World size"),
        ({"max_num_seqs": 512, "max_num_batched_tokens": 256}, "max_num_batched_tokens"),
    ],
)
def test_what_vllm_would_refuse_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(sizing.StartError, match=words):
        sizing.plan(settings(**values))


def test_a_lower_fraction_starts_beside_what_others_hold() -> None:
    given = {"gpu_memory_taken": 10.0, "max_model_len": 4096}
    taken, alone = (
        sizing.plan(settings(gpu_memory_utilization=0.85, **more)) for more in (given, {"max_model_len": 4096})
    )
    assert taken.scheduler.kv_blocks == alone.scheduler.kv_blocks


def test_faults_have_bounds() -> None:
    with pytest.raises(UsageError):
        Faults(slowdown=float("inf"))
