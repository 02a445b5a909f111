"""Options of the sizing commands, grouped by the recommender's type that they fill.

Every field of `EngineConfig`, `Workload`, `Objectives` and `Limits` has an option of its name; a test
holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from plimsoll_cli.sizing.parameters import COUNTED, DURATION, PER_NODE, PRICED
from plimsoll_recommender.engine_config import (
    DEFAULT_ENGINE_VERSION,
    DTYPES,
    ENCODER_MODES,
    KV_CACHE_DTYPES,
    SPECULATIVE_METHODS,
)

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS: Final = ("table", "json", "yaml", "html")
"""Values of --output."""

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)


def _apply(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def model_options(command: Command) -> Command:
    """Which model, and what is measured of it."""
    return _apply(
        click.option("--model", "-m", help="Catalogue name, directory, config.json, or hf://org/name from the hub."),
        click.option("--hub-token-env", metavar="VARIABLE", help="Environment variable that holds the hub's token."),
        click.option("--weight-bytes", type=int, help="Exact bytes of the checkpoint, instead of the estimate."),
        click.option("--weights-gib", type=float, help="Measured GiB of weights per GPU, instead of the estimate."),
        click.option("--gpu-total-gib", type=float, help="GiB that the driver reports, instead of the catalogue's."),
        click.option(
            "--observed", type=FILE, help="Start-up log or /metrics of a running engine, or corrections made from them."
        ),
    )(command)


def output_options(command: Command) -> Command:
    """How to print, and where."""
    return _apply(
        click.option("--output", "-o", "form", type=click.Choice(FORMATS), default="table", show_default=True),
        click.option("--file", type=NEW_FILE, help="Write to FILE instead of the terminal."),
    )(command)


def one_gpu_option(command: Command) -> Command:
    """The accelerator of `memory` and `predict`."""
    return click.option("--gpu", "-g", required=True, help="Accelerator, such as H100 or NVIDIA-L40S.")(command)


def engine_options(command: Command) -> Command:
    """vLLM's own flags; what is absent is what vLLM would choose."""
    return _apply(
        click.option("--tensor-parallel-size", "-tp", type=int, default=1, show_default=True),
        click.option("--pipeline-parallel-size", "-pp", type=int, default=1, show_default=True),
        click.option("--data-parallel-size", "-dp", type=int, default=1, show_default=True),
        click.option("--expert-parallel", "--enable-expert-parallel", is_flag=True, help="Whole experts per GPU."),
        click.option("--max-num-seqs", type=int, help="Most sequences in a step."),
        click.option("--max-num-batched-tokens", type=int, help="Most tokens in a step."),
        click.option("--gpu-memory-utilization", type=float, help="Share of GPU memory for the engine."),
        click.option("--max-model-len", type=int, help="Longest prompt plus output, tokens."),
        click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True),
        click.option("--quantization", "-q", help="Done while loading, such as fp8."),
        click.option(
            "--kv-cache-dtype", type=click.Choice(KV_CACHE_DTYPES), metavar="TYPE", default="auto", show_default=True
        ),
        click.option("--block-size", type=int, help="Tokens of a KV block."),
        click.option("--enforce-eager", is_flag=True, help="No CUDA graphs."),
        click.option("--max-loras", type=int, default=0, show_default=True, help="Adapters resident at once."),
        click.option("--max-lora-rank", type=int, default=16, show_default=True),
        click.option("--num-speculative-tokens", type=int, default=0, show_default=True, help="Drafted per step."),
        click.option(
            "--speculative-method",
            type=click.Choice([name for name in SPECULATIVE_METHODS if name]),
            help="Drafter; default the model's own layers.",
        ),
        click.option("--draft-weights-gib", type=float, default=0.0, show_default=True, help="Of the draft, per GPU."),
        click.option("--enable-prefix-caching/--no-enable-prefix-caching", default=True, show_default=True),
        click.option("--mm-encoder-tp-mode", type=click.Choice(ENCODER_MODES), default="weights", show_default=True),
        click.option("--engine", type=click.Choice(("vllm",)), default="vllm", show_default=True),
        click.option("--engine-version", default=DEFAULT_ENGINE_VERSION, show_default=True),
    )(command)


def limit_options(command: Command) -> Command:
    """What a recommendation may not change or exceed."""
    return _apply(
        click.option("--tensor-parallel-size", "-tp", type=int, help="Obeyed as given; searched when absent."),
        click.option("--pipeline-parallel-size", "-pp", type=int, help="As above, and so the next five."),
        click.option("--max-num-seqs", type=int),
        click.option("--max-num-batched-tokens", type=int),
        click.option("--gpu-memory-utilization", type=float),
        click.option("--max-model-len", type=int),
        click.option("--kv-cache-dtype", type=click.Choice(KV_CACHE_DTYPES), metavar="TYPE"),
        click.option(
            "--allow-kv-cache-dtype",
            "allow_kv_cache_dtypes",
            type=click.Choice(KV_CACHE_DTYPES),
            metavar="TYPE",
            multiple=True,
            help="KV cache type that may be chosen, such as fp8; repeatable.",
        ),
        click.option(
            "--variant",
            "variants",
            multiple=True,
            help="Quantised version that may be chosen: a model as in --model, or a load-time type such as fp8.",
        ),
        click.option("--allow-expert-parallel", is_flag=True, help="Whole experts per GPU may be chosen."),
        click.option("--mix-accelerators", is_flag=True, help="The fleet may be of several kinds of --gpu."),
        click.option("--max-kinds", type=int, default=2, show_default=True, help="Most kinds in a mixed fleet."),
        click.option("--min-replicas", type=int, default=1, show_default=True),
        click.option("--max-replicas", type=int),
        click.option("--budget-per-hour", "--budget", type=float, help="Most that the fleet may cost per hour."),
        click.option("--gpus-per-node", type=PER_NODE, multiple=True, help="8 for all, or H100=8.  [default: 8]"),
        click.option("--max-gpus", type=COUNTED, multiple=True, help="Most GPUs of a kind, such as H100=16."),
        click.option(
            "--headroom", type=float, default=0.2, show_default=True, help="Share of the load line kept free."
        ),
        click.option("--engine-version", help=f"Release that will run.  [default: {DEFAULT_ENGINE_VERSION}]"),
    )(command)


def gpus_option(command: Command) -> Command:
    """The accelerators of `recommend`, with prices (`Limits.hourly_cost`)."""
    return click.option(
        "--gpu", "-g", "gpus", type=PRICED, multiple=True, help="NAME, or NAME=PRICE per GPU-hour; repeatable."
    )(command)


def workload_options(command: Command) -> Command:
    """Traffic and objectives."""
    return _apply(
        click.option("--requests-per-second", "--rps", type=float, help="Of the whole service (open loop)."),
        click.option("--concurrency", type=float, help="Requests in flight (closed loop), instead of --rps."),
        click.option("--input-tokens", type=float, default=1000.0, show_default=True, help="Mean per request."),
        click.option("--output-tokens", type=float, default=250.0, show_default=True, help="Mean per request."),
        click.option("--input-tokens-p95", type=float, help="Default: 2.5 times the mean (closed loop: the mean)."),
        click.option("--output-tokens-p95", type=float, help="Default: as above."),
        click.option("--burstiness", type=float, default=1.0, show_default=True, help="1 is Poisson."),
        click.option("--prefix-hit-ratio", type=float, default=0.0, show_default=True, help="Share of prompt cached."),
        click.option("--ttft", type=DURATION, help="Objective: time to first token, such as 800ms."),
        click.option("--tpot", type=DURATION, help="Objective: time per output token."),
        click.option("--e2e", type=DURATION, help="Objective: time for the whole response."),
        click.option("--percentile", type=float, default=95.0, show_default=True, help="At which objectives hold."),
    )(command)


def service_option(command: Command) -> Command:
    """A service's manifest instead of options."""
    return click.option(
        "--service", "-f", type=FILE, help="Size the LLMService of a YAML file, as the operator would."
    )(command)


def result_options(command: Command) -> Command:
    """What of a recommendation is printed."""
    return _apply(
        click.option("--explain", is_flag=True, help="Table: also rejected neighbours and the ledger's arithmetic."),
        click.option("--what-if", is_flag=True, help="Table: also the answers to neighbouring questions."),
        click.option("--manifest", is_flag=True, help="Print an LLMService that can be applied, instead."),
        click.option("--flags", is_flag=True, help="Print the engine's command line, instead."),
    )(command)


def draft_option(command: Command) -> Command:
    """The drafter of speculative decoding, where memory is asked for."""
    return click.option("--draft", help="Model that drafts, when it is one of its own; named as in --model.")(command)
