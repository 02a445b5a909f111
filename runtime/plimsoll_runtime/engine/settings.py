"""What the simulated engine is told: vLLM's flags, and a few of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

BIND_ADDRESS_VARIABLE: Final = "PLIMSOLL_BIND_ADDRESS"
GPU_VARIABLE: Final = "PLIMSOLL_GPU_PRODUCT"
VISIBLE_GPUS_VARIABLE: Final = "NVIDIA_VISIBLE_DEVICES"

DEFAULT_GPU: Final = "NVIDIA-H100-80GB-HBM3"
"""GPU claimed when nothing says otherwise."""


class UsageError(Exception):
    """Arguments that cannot be used. Its text is one line a person can act on."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose.

    Args:
        slowdown: factor on every step's time.
        error_rate: share of requests answered with 500 (0 to 1).
        stalled: no step ends, so no token appears, while `/health` stays 200 (as with a hung GPU).
    """

    slowdown: float = 1.0
    error_rate: float = 0.0
    stalled: bool = False

    def __post_init__(self) -> None:
        if not (self.slowdown > 0 and self.slowdown != float("inf")):
            raise UsageError(f"slowdown must be above 0, got {self.slowdown:g}: 1 is the model's own speed")
        if not 0 <= self.error_rate <= 1:
            raise UsageError(f"error_rate must be 0 to 1, got {self.error_rate:g}")


@dataclass(frozen=True)
class Settings:
    """Everything the engine is told. Fields that vLLM has too mean what they mean there; None leaves them to it.

    Args:
        gpu: product name of the accelerator it claims to run on.
        visible_gpus: GPUs it was given; None when it was not told.
        gpu_memory_taken: GiB of each GPU that something else holds before it starts.
        startup_delay: seconds before the port opens.
        fail_startup: message with which it exits at the end of the start-up delay; None starts.
        faults: what goes wrong from the start.
        enable_admin: whether `POST /admin/faults` changes faults at run time.
        seed: seed of output lengths, and of which requests fail.
    """

    model: str
    served_model_names: tuple[str, ...]
    host: str | None
    port: int
    api_keys: tuple[str, ...] = ()
    revision: str | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str = "auto"
    dtype: str = "auto"
    quantization: str | None = None
    block_size: int | None = None
    num_gpu_blocks_override: int | None = None
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    shutdown_timeout: float = 0.0
    max_num_queued_reqs: int | None = None
    gpu: str = DEFAULT_GPU
    visible_gpus: int | None = None
    gpu_memory_taken: float = 0.0
    startup_delay: float = 0.0
    fail_startup: str | None = None
    faults: Faults = Faults()
    enable_admin: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.gpu_memory_taken < float("inf"):
            raise UsageError(f"gpu_memory_taken must be 0 GiB or more, got {self.gpu_memory_taken:g}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[Settings, tuple[str, ...]]:
    """Settings of a command line, and the flags that look like vLLM's but have no meaning here.

    Raises:
        UsageError: an argument that cannot be used.
    """
    variables = os.environ if environment is None else environment
    rest = list(arguments)
    if rest[:1] == ["serve"]:
        rest = rest[1:]
    model = rest.pop(0) if rest and not rest[0].startswith("-") else None
    given, unknown = _parser(variables).parse_known_args([_with_dashes(argument) for argument in rest])
    model = given.model or model
    if model is None:
        raise UsageError("no model: `plimsoll-engine MODEL [flags]`")
    visible = variables.get(VISIBLE_GPUS_VARIABLE)
    settings = Settings(
        model=model,
        served_model_names=tuple(given.served_model_name or [model]),
        host=given.host or variables.get(BIND_ADDRESS_VARIABLE) or None,
        port=given.port,
        api_keys=tuple(given.api_key or ()),
        revision=given.revision,
        tensor_parallel_size=given.tensor_parallel_size,
        pipeline_parallel_size=given.pipeline_parallel_size,
        max_num_seqs=given.max_num_seqs,
        max_num_batched_tokens=given.max_num_batched_tokens,
        max_model_len=given.max_model_len,
        gpu_memory_utilization=given.gpu_memory_utilization,
        kv_cache_dtype=given.kv_cache_dtype,
        dtype=given.dtype,
        quantization=given.quantization,
        block_size=given.block_size,
        num_gpu_blocks_override=given.num_gpu_blocks_override,
        enable_prefix_caching=given.enable_prefix_caching,
        enforce_eager=given.enforce_eager,
        shutdown_timeout=given.shutdown_timeout,
        max_num_queued_reqs=given.max_num_queued_reqs,
        gpu=given.gpu or variables.get(GPU_VARIABLE) or DEFAULT_GPU,
        visible_gpus=len(visible.split(",")) if visible and visible[0].isdigit() else None,
        gpu_memory_taken=given.gpu_memory_taken,
        startup_delay=given.startup_delay,
        fail_startup=given.fail_startup,
        faults=Faults(slowdown=given.slowdown, error_rate=given.error_rate, stalled=given.stall),
        enable_admin=given.enable_admin,
        seed=given.seed,
    )
    return settings, tuple(argument for argument in unknown if argument.startswith("-"))


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="plimsoll-engine", description="A simulated vLLM engine.", allow_abbrev=False)
    _add_vllm_flags(parser)
    own = parser.add_argument_group("simulation", "each may come from the environment, as PLIMSOLL_ and its name")

    def default(flag: str, otherwise: str) -> str:
        return environment.get("PLIMSOLL_" + flag.upper().replace("-", "_"), otherwise)

    own.add_argument("--gpu", help="accelerator product it claims to run on")
    own.add_argument(
        "--gpu-memory-taken", type=float, default=default("gpu-memory-taken", "0"), help="GiB that others hold"
    )
    own.add_argument("--startup-delay", type=float, default=default("startup-delay", "0"), help="seconds")
    own.add_argument("--fail-startup", default=environment.get("PLIMSOLL_FAIL_STARTUP"), help="exit 1 with this text")
    own.add_argument("--slowdown", type=float, default=default("slowdown", "1"), help="factor on step times")
    own.add_argument("--error-rate", type=float, default=default("error-rate", "0"), help="share answered with 500")
    own.add_argument("--stall", action="store_true", default=_truth(default("stall", "")), help="no step ever ends")
    own.add_argument("--enable-admin", action="store_true", default=_truth(default("enable-admin", "")))
    own.add_argument("--seed", type=int, default=default("seed", "0"))
    return parser


def _add_vllm_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--api-key", nargs="+")
    parser.add_argument("--revision")
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantization", "-q")
    parser.add_argument("--block-size", type=int)
    parser.add_argument("--num-gpu-blocks-override", type=int)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--shutdown-timeout", type=float, default=0.0)
    parser.add_argument("--max-num-queued-reqs", type=int)


def _with_dashes(argument: str) -> str:
    """vLLM takes underscores in flags, too."""
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def _truth(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")
