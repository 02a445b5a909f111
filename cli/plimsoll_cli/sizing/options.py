"""Options of the sizing commands, grouped by the recommender's type that they fill.

Every field of `EngineConfig`, `Workload`, `Objectives` and `Limits` has an option of its name; a test
holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from plimsoll_cli.sizing.parameters import COUNTED, DURATION, PER_NODE, PRICED, SEQUENCES, SHARED
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


class SizingCommand(click.Command):
    """A command whose help lists its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section, in the order in which the sections were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                title = option.section if isinstance(option, _Option) else "Other"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class _Option(click.Option):
    """An option that knows its section of the help."""

    def __init__(self, *names: Any, section: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.section = section


def _section(title: str, *decorators: Callable[..., Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Options below a title of the help, in the order given."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(section=title)(command)
        return command

    return decorate


def _option(*names: str, **settings: Any) -> Callable[..., Callable[[Command], Command]]:
    """An option whose section is named by `_section`."""
    return partial(click.option, *names, cls=_Option, **settings)


def model_options(command: Command) -> Command:
    """Which model, and what is measured of it."""
    return _section(
        "Model, and what is measured of it",
        _option("--model", "-m", help="Catalogue name, directory, config.json, or hf://org/name from the hub."),
        _option("--hub-token-env", metavar="VARIABLE", help="Environment variable that holds the hub's token."),
        _option("--weight-bytes", type=int, help="Exact bytes of the checkpoint, instead of the estimate."),
        _option("--weights-gib", type=float, help="Measured GiB of weights per GPU, instead of the estimate."),
        _option("--gpu-total-gib", type=float, help="GiB that the driver reports, instead of the catalogue's."),
        _option(
            "--observed", type=FILE, help="Start-up log or /metrics of a running engine, or corrections made from them."
        ),
    )(command)


def output_options(command: Command) -> Command:
    """How to print, and where."""
    return _section(
        "Output",
        _option("--output", "-o", "form", type=click.Choice(FORMATS), default="table", show_default=True),
        _option("--file", type=NEW_FILE, help="Write to FILE instead of the terminal."),
    )(command)


def one_gpu_option(command: Command) -> Command:
    """The accelerator of `memory` and `predict`."""
    return _section("GPU", _option("--gpu", "-g", required=True, help="Accelerator, such as H100 or NVIDIA-L40S."))(
        command
    )


def engine_options(command: Command) -> Command:
    """vLLM's own flags; what is absent is what vLLM would choose."""
    return _section(
        "Engine",
        _option("--tensor-parallel-size", "-tp", type=int, default=1, show_default=True),
        _option("--pipeline-parallel-size", "-pp", type=int, default=1, show_default=True),
        _option("--data-parallel-size", "-dp", type=int, default=1, show_default=True),
        _option("--expert-parallel", "--enable-expert-parallel", is_flag=True, help="Whole experts per GPU."),
        _option("--max-num-seqs", type=int, help="Most sequences in a step."),
        _option("--max-num-batched-tokens", type=int, help="Most tokens in a step."),
        _option("--gpu-memory-utilization", type=float, help="Share of GPU memory for the engine."),
        _option("--max-model-len", type=int, help="Longest prompt plus output, tokens."),
        _option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True),
        _option("--quantization", "-q", help="Done while loading, such as fp8."),
        _option(
            "--kv-cache-dtype", type=click.Choice(KV_CACHE_DTYPES), metavar="TYPE", default="auto", show_default=True
        ),
        _option("--block-size", type=int, help="Tokens of a KV block."),
        _option("--enforce-eager", is_flag=True, help="No CUDA graphs."),
        _option("--max-loras", type=int, default=0, show_default=True, help="Adapters resident at once."),
        _option("--max-lora-rank", type=int, default=16, show_default=True),
        _option("--num-speculative-tokens", type=int, default=0, show_default=True, help="Drafted per step."),
        _option(
            "--speculative-method",
            type=click.Choice([name for name in SPECULATIVE_METHODS if name]),
            help="Drafter; default the model's own layers.",
        ),
        _option("--draft-weights-gib", type=float, default=0.0, show_default=True, help="Of the draft, per GPU."),
        _option("--enable-prefix-caching/--no-enable-prefix-caching", default=True, show_default=True),
        _option("--mm-encoder-tp-mode", type=click.Choice(ENCODER_MODES), default="weights", show_default=True),
        _option("--engine", type=click.Choice(("vllm",)), default="vllm", show_default=True),
        _option("--engine-version", default=DEFAULT_ENGINE_VERSION, show_default=True),
    )(command)


def limit_options(command: Command) -> Command:
    """What a recommendation may not change or exceed."""
    return _section(
        "Engine settings and limits",
        _option("--tensor-parallel-size", "-tp", type=int, help="Obeyed as given; searched when absent."),
        _option("--pipeline-parallel-size", "-pp", type=int, help="As above, and so the next five."),
        _option("--max-num-seqs", type=int),
        _option("--max-num-batched-tokens", type=int),
        _option("--gpu-memory-utilization", type=float),
        _option("--max-model-len", type=int),
        _option("--kv-cache-dtype", type=click.Choice(KV_CACHE_DTYPES), metavar="TYPE"),
        _option(
            "--allow-kv-cache-dtype",
            "allow_kv_cache_dtypes",
            type=click.Choice(KV_CACHE_DTYPES),
            metavar="TYPE",
            multiple=True,
            help="KV cache type that may be chosen, such as fp8; repeatable.",
        ),
        _option(
            "--variant",
            "variants",
            multiple=True,
            help="Quantised version that may be chosen: a model as in --model, or a load-time type such as fp8.",
        ),
        _option("--allow-expert-parallel", is_flag=True, help="Whole experts per GPU may be chosen."),
        _option("--mix-accelerators", is_flag=True, help="The fleet may be of several kinds of --gpu."),
        _option("--max-kinds", type=int, default=2, show_default=True, help="Most kinds in a mixed fleet."),
        _option("--min-replicas", type=int, default=1, show_default=True),
        _option("--max-replicas", type=int),
        _option("--budget-per-hour", "--budget", type=float, help="Most that the fleet may cost per hour."),
        _option("--gpus-per-node", type=PER_NODE, multiple=True, help="8 for all, or H100=8.  [default: 8]"),
        _option("--max-gpus", type=COUNTED, multiple=True, help="Most GPUs of a kind, such as H100=16."),
        _option("--utilization-ceiling", type=SHARED, multiple=True, help="Most memory fraction chosen: H100=0.87."),
        _option("--sequences-ceiling", type=SEQUENCES, multiple=True, help="Most max_num_seqs chosen: H100=64."),
        _option("--headroom", type=float, default=0.2, show_default=True, help="Share of the load line kept free."),
        _option("--engine-version", help=f"Release that will run.  [default: {DEFAULT_ENGINE_VERSION}]"),
    )(command)


def gpus_option(command: Command) -> Command:
    """The accelerators of `recommend`, with prices (`Limits.hourly_cost`)."""
    return _section(
        "GPUs",
        _option(
            "--gpu",
            "-g",
            "gpus",
            type=PRICED,
            metavar="NAME[=PRICE]",
            multiple=True,
            help="Kind that may be used, with a price per GPU-hour; repeatable.",
        ),
    )(command)


def workload_options(command: Command) -> Command:
    """Traffic and objectives."""
    command = _section(
        "Objectives",
        _option("--ttft", type=DURATION, help="Objective: time to first token, such as 800ms."),
        _option("--tpot", type=DURATION, help="Objective: time per output token."),
        _option("--e2e", type=DURATION, help="Objective: time for the whole response."),
        _option("--percentile", type=float, default=95.0, show_default=True, help="At which objectives hold."),
    )(command)
    return _section(
        "Traffic",
        _option("--requests-per-second", "--rps", type=float, help="Of the whole service (open loop)."),
        _option("--concurrency", type=float, help="Requests in flight (closed loop), instead of --rps."),
        _option("--input-tokens", type=float, default=1000.0, show_default=True, help="Mean per request."),
        _option("--output-tokens", type=float, default=250.0, show_default=True, help="Mean per request."),
        _option("--input-tokens-p95", type=float, help="Default: 2.5 times the mean (closed loop: the mean)."),
        _option("--output-tokens-p95", type=float, help="Default: as above."),
        _option("--burstiness", type=float, default=1.0, show_default=True, help="1 is Poisson."),
        _option("--prefix-hit-ratio", type=float, default=0.0, show_default=True, help="Share of prompt cached."),
    )(command)


def service_option(command: Command) -> Command:
    """A service's manifest instead of options."""
    return _section(
        "GPUs", _option("--service", "-f", type=FILE, help="Size the LLMService of a YAML file, as the operator would.")
    )(command)


def result_options(command: Command) -> Command:
    """What of a recommendation is printed."""
    return _section(
        "Output",
        _option("--explain", is_flag=True, help="Table: also rejected neighbours and the ledger's arithmetic."),
        _option("--what-if", is_flag=True, help="Table: also the answers to neighbouring questions."),
        _option("--manifest", is_flag=True, help="Print an LLMService that can be applied, instead."),
        _option("--flags", is_flag=True, help="Print the engine's command line, instead."),
    )(command)


def draft_option(command: Command) -> Command:
    """The drafter of speculative decoding, where memory is asked for."""
    return _section(
        "Engine", _option("--draft", help="Model that drafts, when it is one of its own; named as in --model.")
    )(command)
