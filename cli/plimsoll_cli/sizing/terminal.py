"""Answers on a terminal of 100 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from plimsoll_cli.report.figures import duration_text
from plimsoll_cli.sizing.bar import MemoryBar
from plimsoll_cli.sizing.plot import CHOSEN, CURVE, LOAD_LINE, OBJECTIVE, Plot, drawn
from plimsoll_recommender import Accelerator, Latency, MemoryLedger, ModelFacts, Objectives, Prediction, Recommendation
from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.explanation.arithmetic import Term, kv_cache_terms, remainder_terms
from plimsoll_recommender.explanation.headline import fleet_text, headline
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.explanation.sensitivity import Variation
from plimsoll_recommender.latency.curve import CurvePoint

PLOT_WIDTH: Final = 47
PLOT_HEIGHT: Final = 9
"""Two plots beside each other on 100 columns."""

_MET_TOLERANCE: Final = 1.001
"""The load line is found by halving, so that the objective there is met to a thousandth."""


def recommendation_view(
    question: Question, answer: Recommendation, curve: Sequence[CurvePoint], *, explain: bool = False
) -> RenderableType:
    """A recommendation: the sentence, why each field, memory, prediction, curve, alternatives.

    Args:
        question: what was asked.
        answer: the recommendation.
        curve: latencies of one replica over its request rate.
        explain: also name the rejected neighbours of every field and the ledger's arithmetic.
    """
    objectives = question.objectives
    parts: list[RenderableType] = [
        Text(question.facts.name, style="bold"),
        Text(headline(answer, question.workload, objectives)),
        _confidence(answer),
        _reasons(answer, explain=explain),
        _heading(f"Memory of one GPU, {answer.ledger.gpu_total_gib:.2f} GiB"),
        MemoryBar(answer.ledger),
    ]
    if explain:
        parts += [_terms(kv_cache_terms(answer.ledger, answer.config)), _terms(remainder_terms(answer.ledger))]
    parts += [
        _heading(f"One replica at its load line, {answer.load_line_rps:.3g} req/s"),
        prediction_view(answer.predicted, objectives),
        curve_view(curve, answer, objectives),
    ]
    if answer.alternatives:
        parts += [_heading("Considered and not chosen"), _alternatives(answer)]
    if not explain:
        parts.append(Text("\n--explain names the rejected neighbours; -o html draws it all", style="dim"))
    return Group(*parts)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _confidence(answer: Recommendation) -> Text:
    colour = {"High": "green", "Medium": "yellow", "Low": "red"}[answer.confidence]
    text = Text("confidence ")
    text.append(answer.confidence, style=colour)
    return text.append(f": {answer.confidence_why}")


def _table(*columns: str, right: Sequence[str] = (), fold: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="dim", collapse_padding=True)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column not in fold)
    return table


def _reasons(answer: Recommendation, *, explain: bool) -> Table:
    table = _table("setting", "value", "why", fold=("why",))
    for reason in answer.reasons:
        why = Text(reason.because)
        for neighbour in reason.rejected if explain else ():
            why.append(f"\nnot {neighbour}", style="dim")
        table.add_row(reason.field, reason.value, why)
    return table


def _alternatives(answer: Recommendation) -> Table:
    table = _table("configuration", "per hour", "why not", right=("per hour",), fold=("why not", "configuration"))
    table.add_row(
        Text(fleet_text(answer), style="bold"), Text(f"{answer.cost.per_hour:.2f}", style="bold"), Text("chosen")
    )
    for item in answer.alternatives:
        price = "-" if item.hourly_cost is None else f"{item.hourly_cost:.2f}"
        table.add_row(Text(item.summary), price, Text(item.rejected_because))
    return table


def _terms(terms: Sequence[Term]) -> Table:
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for term in terms:
        style = "bold" if term.sign == "=" else ""
        table.add_row(term.sign, term.name, term.value, term.unit, Text(term.source, style="dim"), style=style)
    return table


def curve_view(curve: Sequence[CurvePoint], answer: Recommendation, objectives: Objectives) -> RenderableType:
    """TTFT and TPOT over the request rate of one replica, side by side."""
    rates, line, percentile = [point.rate for point in curve], answer.load_line_rps, objectives.percentile
    plots = [
        Plot(
            f"{name.upper()} p{percentile:g} over req/s",
            rates,
            [getattr(point, name).value for point in curve],
            line,
            getattr(answer.predicted, name).at(percentile),
            getattr(objectives, name),
        )
        for name in ("ttft", "tpot")
    ]
    left, right = (drawn(plot, PLOT_WIDTH, PLOT_HEIGHT) for plot in plots)
    lines = [f"{one:<{PLOT_WIDTH + 2}}{two}".rstrip() for one, two in zip(left, right, strict=True)]
    marks = f"{CURVE} predicted   {OBJECTIVE * 3} objective   {LOAD_LINE} load line   {CHOSEN} chosen point"
    return Group(Text(""), Text("\n".join(lines), no_wrap=True, overflow="crop"), Text(marks, style="dim"))


def ledger_view(facts: ModelFacts, gpu: Accelerator, config: ResolvedConfig, ledger: MemoryLedger) -> RenderableType:
    """The ledger as arithmetic with its bar and verdict."""
    verdict = Text("fits: " if ledger.fits else "does not fit: ", style="green" if ledger.fits else "red")
    tensor, stages = config.tensor_parallel_size, config.pipeline_parallel_size
    split = f"TP {tensor}" + (f" PP {stages}, stage {ledger.stage + 1}" if stages > 1 else "")
    return Group(
        Text(f"{facts.name} on {gpu.product}, {split}, vLLM {config.engine_version}", style="bold"),
        verdict.append(ledger.reason, style="default"),
        Text(""),
        MemoryBar(ledger),
        _heading("KV cache of one GPU"),
        _terms(kv_cache_terms(ledger, config)),
        _heading("What the budget leaves"),
        _terms(remainder_terms(ledger)),
        Text(f"\n{ledger.kv_cache_tokens:,} KV tokens, as the engine's log states them", style="dim"),
    )


def prediction_view(prediction: Prediction, objectives: Objectives) -> RenderableType:
    """A prediction: latencies, throughput, what limits."""
    through = prediction.throughput
    line = (
        f"{through.requests_per_second:.3g} req/s, {through.output_tokens_per_second:,.0f} output tokens/s; "
        f"{prediction.running:.1f} running, {prediction.waiting:.1f} waiting; KV cache "
        f"{prediction.kv_cache_usage:.0%} used; limited by {prediction.bound}"
    )
    parts: list[RenderableType] = [_latencies(prediction, objectives), Text(line)]
    if prediction.saturated:
        parts.append(
            Text(
                f"more is asked than one replica carries (load line {prediction.load_line_rps:.3g} req/s): the queue "
                "grows",
                style="red",
            )
        )
    return Group(*parts)


def _latencies(prediction: Prediction, objectives: Objectives) -> Table:
    figures = ("mean", "90 % interval", "p50", "p90", "p95", "p99")
    table = _table("", *figures, "objective", right=(*figures, "objective"))
    for name, latency, target in (
        ("TTFT", prediction.ttft, objectives.ttft),
        ("TPOT", prediction.tpot, objectives.tpot),
        ("E2E", prediction.e2e, objectives.e2e),
    ):
        table.add_row(name, *_latency_cells(latency), _target_cell(latency, target, objectives.percentile))
    return table


def _latency_cells(latency: Latency) -> Iterator[str]:
    yield duration_text(latency.mean)
    finite = math.isfinite(latency.mean)
    yield f"{duration_text(latency.low)} to {duration_text(latency.high)}" if finite else "-"
    for point in (latency.p50, latency.p90, latency.p95, latency.p99):
        yield duration_text(point)


def _target_cell(latency: Latency, target: float | None, percentile: float) -> Text:
    if target is None:
        return Text("-", style="dim")
    met = latency.at(percentile) <= target * _MET_TOLERANCE
    word = "met" if met else "missed"
    return Text(f"p{percentile:g} {duration_text(target)} {word}", style="green" if met else "red")


def variations_view(found: Sequence[Variation]) -> RenderableType:
    """What would change the answer."""
    table = _table("if", "then", "per hour", right=("per hour",), fold=("then",))
    for variation in found:
        if variation.answer is None:
            table.add_row(variation.change, Text(variation.refused, style="red"), "-")
        else:
            then = f"{fleet_text(variation.answer)}, load line {variation.answer.load_line_rps:.3g} req/s"
            table.add_row(variation.change, then, f"{variation.answer.cost.per_hour:.2f}")
    return Group(_heading("What would change the answer"), table)


def show(view: RenderableType) -> None:
    """Print to the terminal; without colours where there is none."""
    Console(highlight=False).print(view)


def as_plain_text(view: RenderableType) -> str:
    """The view without colours, 100 columns wide: for a file."""
    console = Console(file=StringIO(), width=100, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()
