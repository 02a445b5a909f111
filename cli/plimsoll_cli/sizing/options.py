"""Options of the sizing commands, and how their texts become the recommender's types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.options import DURATION
from plimsoll_recommender import (
    Accelerator,
    EngineConfig,
    ModelFacts,
    Objectives,
    UnknownModelError,
    Workload,
    accelerator,
)
from plimsoll_recommender.engine_config import DEFAULT_ENGINE_VERSION, DTYPES, KV_CACHE_DTYPES

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS: Final = ("table", "json", "yaml", "html")
"""Values of --output."""


def _apply(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def model_option(command: Command) -> Command:
    """Which model."""
    return click.option(
        "--model", "-m", required=True, help="Catalogue name, hf://org/name, directory, or config.json."
    )(command)


def output_option(command: Command) -> Command:
    """How to print."""
    return _apply(
        click.option("--output", "-o", "form", type=click.Choice(FORMATS), default="table", show_default=True),
        click.option(
            "--file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write to FILE instead."
        ),
    )(command)


def engine_options(command: Command) -> Command:
    """vLLM's own flags; what is absent is what vLLM would choose."""
    return _apply(
        click.option("--tensor-parallel-size", "-tp", type=int, default=1, show_default=True),
        click.option("--pipeline-parallel-size", "-pp", type=int, default=1, show_default=True),
        click.option("--data-parallel-size", "-dp", type=int, default=1, show_default=True),
        click.option("--enable-expert-parallel", "expert_parallel", is_flag=True, help="Whole experts per GPU."),
        click.option("--max-num-seqs", type=int),
        click.option("--max-num-batched-tokens", type=int),
        click.option("--gpu-memory-utilization", type=float),
        click.option("--max-model-len", type=int),
        click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True),
        click.option("--quantization", "-q", help="Done while loading, such as fp8."),
        click.option("--kv-cache-dtype", type=click.Choice(KV_CACHE_DTYPES), default="auto", show_default=True),
        click.option("--block-size", type=int),
        click.option("--enforce-eager", is_flag=True, help="No CUDA graphs."),
        click.option("--engine-version", default=DEFAULT_ENGINE_VERSION, show_default=True),
    )(command)


def pinned_options(command: Command) -> Command:
    """Engine settings that are obeyed when given and recommended when absent."""
    return _apply(
        click.option("--tensor-parallel-size", "-tp", type=int),
        click.option("--pipeline-parallel-size", "-pp", type=int),
        click.option("--max-num-seqs", type=int),
        click.option("--max-num-batched-tokens", type=int),
        click.option("--gpu-memory-utilization", type=float),
        click.option("--max-model-len", type=int),
        click.option("--kv-cache-dtype", type=click.Choice(KV_CACHE_DTYPES)),
        click.option("--engine-version", default=DEFAULT_ENGINE_VERSION, show_default=True),
    )(command)


def workload_options(command: Command) -> Command:
    """Traffic and objectives."""
    return _apply(
        click.option("--rps", type=float, help="Requests per second of the service (open loop)."),
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


def workload_of(given: dict[str, Any]) -> Workload:
    """The workload of parsed options."""
    return Workload(
        input_tokens=given["input_tokens"],
        output_tokens=given["output_tokens"],
        requests_per_second=given["rps"],
        concurrency=given["concurrency"],
        burstiness=given["burstiness"],
        input_tokens_p95=given["input_tokens_p95"],
        output_tokens_p95=given["output_tokens_p95"],
        prefix_hit_ratio=given["prefix_hit_ratio"],
    )


def objectives_of(given: dict[str, Any]) -> Objectives:
    """The objectives of parsed options."""
    return Objectives(given["ttft"], given["tpot"], given["e2e"], given["percentile"])


def config_of(given: dict[str, Any]) -> EngineConfig:
    """The engine settings of parsed options."""
    names = EngineConfig.__dataclass_fields__
    return EngineConfig(**{name: value for name, value in given.items() if name in names})


def facts_of(model: str) -> ModelFacts:
    """Facts of --model.

    Raises:
        CommandError: when it is not known (exit 2).
    """
    try:
        return ModelFacts.load(model)
    except UnknownModelError as error:
        raise CommandError(str(error), 2) from error


def accelerators_of(names: tuple[str, ...]) -> list[Accelerator]:
    """Accelerators of --gpu options, each `NAME` or `NAME=PRICE`."""
    return [accelerator(name.partition("=")[0]) for name in names]


def prices_of(names: tuple[str, ...]) -> dict[str, float]:
    """Prices of --gpu options of the form `NAME=PRICE`, by product.

    Raises:
        CommandError: a price that is not a number (exit 2).
    """
    prices = {}
    for name in names:
        gpu, given, price = name.partition("=")
        if given:
            try:
                prices[accelerator(gpu).product] = float(price)
            except ValueError as error:
                raise CommandError(
                    f"--gpu {name}: {price!r} is not a price per GPU-hour: write {gpu}=2.50", 2
                ) from error
    return prices
