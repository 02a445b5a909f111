"""`plimsoll recommend`, `plimsoll memory`, `plimsoll predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import RenderableType

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing import options
from plimsoll_cli.sizing.documents import as_text, ledger_document, prediction_document, recommendation_document
from plimsoll_cli.sizing.terminal import ledger_view, prediction_view, recommendation_view, show
from plimsoll_recommender import (
    InfeasibleError,
    Limits,
    ModelFacts,
    Objectives,
    Recommendation,
    RecommenderError,
    Workload,
    accelerator,
    memory_ledger,
)
from plimsoll_recommender import predict as predict_replica
from plimsoll_recommender import recommend as recommend_fleet

Answer = TypeVar("Answer")


@click.command()
@options.model_option
@click.option("--gpu", "-g", "gpus", multiple=True, required=True, help="NAME or NAME=PRICE per GPU-hour; repeatable.")
@options.workload_options
@options.pinned_options
@click.option("--min-replicas", type=int, default=1, show_default=True)
@click.option("--max-replicas", type=int)
@click.option("--budget", type=float, help="Most that the fleet may cost per hour.")
@click.option("--gpus-per-node", type=int, help="GPUs of a node.  [default: 8]")
@click.option("--headroom", type=float, default=0.2, show_default=True, help="Share of the load line kept free.")
@options.output_option
def recommend(model: str, gpus: tuple[str, ...], form: str, file: Path | None, **given: Any) -> None:
    """Size a service: the cheapest fleet that meets the objectives, every setting, and why.

    \b
    plimsoll recommend -m meta-llama/Llama-3.1-8B-Instruct --gpu H100 --gpu L4=0.45 \\
        --rps 4 --input-tokens 1200 --output-tokens 250 --ttft 800ms --tpot 60ms
    """

    def answer() -> tuple[ModelFacts, Recommendation, Workload, Objectives]:
        facts = options.facts_of(model)
        allowed = options.accelerators_of(gpus)
        workload, objectives = options.workload_of(given), options.objectives_of(given)
        node = given["gpus_per_node"]
        limits = Limits(
            **{name: given[name] for name in _PINNED},
            min_replicas=given["min_replicas"],
            max_replicas=given["max_replicas"],
            budget_per_hour=given["budget"],
            gpus_per_node={gpu.product: node for gpu in allowed} if node is not None else {},
            hourly_cost=options.prices_of(gpus),
            headroom=given["headroom"],
            engine_version=given["engine_version"],
        )
        return facts, recommend_fleet(facts, allowed, workload, objectives, limits), workload, objectives

    facts, found, workload, objectives = _answered(answer)
    if form == "html":
        _write_page(facts, found, workload, objectives, file)
        return
    _print(form, file, lambda: recommendation_document(found), lambda: recommendation_view(facts, found, objectives))


_PINNED = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "max_model_len",
    "kv_cache_dtype",
)


@click.command()
@options.model_option
@click.option("--gpu", "-g", required=True, help="Accelerator, such as H100.")
@options.engine_options
@click.option("--weights-gib", type=float, help="Measured weights per GPU, instead of the estimate.")
@click.option("--gpu-total-gib", type=float, help="Total that the driver reports, instead of the catalogue's.")
@options.output_option
def memory(model: str, gpu: str, form: str, file: Path | None, **given: Any) -> None:
    """Show where every GiB of a GPU goes, and whether the engine would start (exit 1 when not)."""
    facts, device, ledger = _answered(
        lambda: (
            (facts := options.facts_of(model)),
            (device := accelerator(gpu)),
            memory_ledger(
                facts,
                device,
                options.config_of(given),
                weights_gib=given["weights_gib"],
                gpu_total_gib=given["gpu_total_gib"],
            ),
        )
    )
    _print(form, file, lambda: ledger_document(ledger), lambda: ledger_view(facts, device, ledger))
    if not ledger.fits:
        raise CommandError(ledger.reason)


@click.command()
@options.model_option
@click.option("--gpu", "-g", required=True, help="Accelerator, such as H100.")
@options.engine_options
@options.workload_options
@options.output_option
def predict(model: str, gpu: str, form: str, file: Path | None, **given: Any) -> None:
    """Predict latency and throughput of one configuration, at a rate or a concurrency."""
    prediction, objectives = _answered(
        lambda: (
            predict_replica(
                options.facts_of(model),
                accelerator(gpu),
                options.config_of(given),
                options.workload_of(given),
                options.objectives_of(given),
            ),
            options.objectives_of(given),
        )
    )
    _print(form, file, lambda: prediction_document(prediction), lambda: prediction_view(prediction, objectives))


def _answered(ask: Callable[[], Answer]) -> Answer:
    """An answer; what the recommender refuses ends the command (1: the answer is no, 2: the input is wrong)."""
    try:
        return ask()
    except InfeasibleError as error:
        raise CommandError(str(error), 1) from error
    except RecommenderError as error:
        raise CommandError(str(error), 2) from error


def _print(
    form: str, file: Path | None, document: Callable[[], dict[str, Any]], view: Callable[[], RenderableType]
) -> None:
    if form == "html":
        raise CommandError("-o html is for `plimsoll recommend`: use table, json or yaml here", 2)
    if form == "table" and file is None:
        show(view())
        return
    text = as_text(document(), "json" if form == "table" else form)
    if file is None:
        click.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")
        click.echo(f"wrote {file}")


def _write_page(
    facts: ModelFacts, found: Recommendation, workload: Workload, objectives: Objectives, file: Path | None
) -> None:
    # plotly takes most of a second to import and only this needs it.
    from plimsoll_cli.sizing.html import recommendation_page
    from plimsoll_recommender.latency.curve import latency_curve

    if file is None:
        raise CommandError("-o html needs --file, such as --file recommendation.html", 2)
    curve = latency_curve(facts, found.accelerator, found.config, workload, objectives)
    file.write_text(recommendation_page(facts.name, found, objectives, curve), encoding="utf-8")
    click.echo(f"wrote {file}")
