"""Answers on a terminal of 100 columns."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from plimsoll_cli.report.figures import duration_text
from plimsoll_cli.sizing.arguments import short_name
from plimsoll_cli.sizing.bar import MemoryBar
from plimsoll_cli.sizing.plot import CHOSEN, CURVE, LOAD_LINE, OBJECTIVE, Plot, drawn
from plimsoll_recommender import Accelerator, Latency, MemoryLedger, ModelFacts, Objectives, Prediction, Recommendation
from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.explanation.arithmetic import Term, kv_cache_terms, remainder_terms
from plimsoll_recommender.explanation.headline import fleet_text, headline, layout_text, member_text
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.explanation.sensitivity import Variation
from plimsoll_recommender.latency.curve import CurvePoint

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections

PLOT_WIDTH: Final = 47
PLOT_HEIGHT: Final = 9
"""Two plots beside each other on 100 columns."""

DOCUMENT_WIDTH: Final = 100
"""Columns where there is no terminal to ask: pipes and files."""

VALUE_WIDTH: Final = 26
"""Longest value of a setting before it is broken: longer than any product's name."""

MOST_ALTERNATIVES: Final = 8
"""Rows of the table of alternatives that are shown without --explain."""

FRONTIER: Final = "*"
"""Mark of an alternative that is on the frontier of cost and latency."""

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
        *_fleet(answer),
        _reasons(answer, explain=explain),
        _heading(f"Memory of one GPU, {answer.ledger.gpu_total_gib:.2f} GiB"),
        MemoryBar(answer.ledger),
    ]
    parts += _observed(question.corrections)
    if explain:
        parts += [_terms(kv_cache_terms(answer.ledger, answer.config)), _terms(remainder_terms(answer.ledger))]
    parts += [
        _heading(f"One replica at its load line, {answer.load_line_rps:.3g} req/s"),
        prediction_view(answer.predicted, objectives),
        curve_view(curve, answer, objectives),
    ]
    if answer.alternatives:
        percentile = f"p{objectives.percentile:g}"
        parts += [
            _heading(f"Considered; latencies at {percentile} under the expected load"),
            _alternatives(answer, explain=explain),
        ]
        if any(item.on_frontier for item in answer.alternatives):
            parts.append(Text(f"{FRONTIER} nothing considered is both cheaper and faster", style="dim"))
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
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column not in fold)
    return table


def _reasons(answer: Recommendation, *, explain: bool) -> Table:
    table = _table("setting", "value", "why", fold=("why", "value"))
    table.columns[1].max_width = VALUE_WIDTH
    for reason in answer.reasons:
        why = Text(reason.because)
        for neighbour in reason.rejected if explain else ():
            why.append(f"\nnot {neighbour}", style="dim")
        table.add_row(reason.field, reason.value, why)
    return table


def _alternatives(answer: Recommendation, *, explain: bool) -> Table:
    figures = ("per hour", "TTFT", "TPOT")
    table = _table("", "configuration", *figures, "why not", right=figures, fold=("why not", "configuration"))
    chosen = (fleet_text(answer), f"{answer.cost.per_hour:.2f}", *map(duration_text, (answer.ttft, answer.tpot)))
    table.add_row("", *(Text(short_name(cell), style="bold") for cell in chosen), Text("chosen", style="bold"))
    for item in answer.alternatives if explain else answer.alternatives[:MOST_ALTERNATIVES]:
        price = "-" if item.hourly_cost is None else f"{item.hourly_cost:.2f}"
        mark = FRONTIER if item.on_frontier else ""
        cells = (price, duration_text(item.ttft), duration_text(item.tpot))
        why = item.rejected_because if explain else item.rejected_because.partition(";")[0]
        table.add_row(mark, short_name(item.summary), *cells, Text(short_name(why)))
    return table


def _fleet(answer: Recommendation) -> Iterator[RenderableType]:
    """The kinds of a mixed fleet, with what to route to each."""
    if len(answer.fleet) < 2:
        return
    figures = ("requests to it", "load line", "max_num_seqs", "per hour")
    table = _table("kind", *figures, right=figures)
    for member in answer.fleet:
        table.add_row(
            member_text(member),
            f"{member.weight:.0%}",
            f"{member.load_line_rps:.3g} req/s each",
            str(member.config.max_num_seqs),
            f"{member.hourly_cost:.2f}",
        )
    yield _heading("The fleet; below, its first kind")
    yield table


def _terms(terms: Sequence[Term]) -> Table:
    table = Table.grid(padding=(0, 1))
    for name in ("sign", "name", "value", "unit"):
        longest = max(len(getattr(term, name)) for term in terms)
        table.add_column(justify="right" if name == "value" else "left", min_width=longest, no_wrap=True)
    table.add_column(overflow="fold")
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
    marks = f"{CURVE} predicted   {OBJECTIVE * 3} objective   {LOAD_LINE} load line   {CHOSEN} chosen point"
    return Group(Text(""), _SideBySide(plots), Text(marks, style="dim"))


@dataclass(frozen=True)
class _SideBySide:
    """Plots beside each other where the terminal is wide enough, else below each other."""

    plots: Sequence[Plot]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [drawn(plot, min(PLOT_WIDTH, options.max_width), PLOT_HEIGHT) for plot in self.plots]
        if options.max_width >= len(columns) * (PLOT_WIDTH + 2):
            rows = zip(*columns, strict=True)
            lines = ["".join(f"{cell:<{PLOT_WIDTH + 2}}" for cell in row).rstrip() for row in rows]
        else:
            lines = [line for column in columns for line in column]
        yield Text("\n".join(lines), no_wrap=True, overflow="crop")


def ledger_view(
    facts: ModelFacts,
    gpu: Accelerator,
    config: ResolvedConfig,
    ledger: MemoryLedger,
    corrections: Corrections | None = None,
) -> RenderableType:
    """The ledger as arithmetic with its bar and verdict."""
    verdict = Text("fits: " if ledger.fits else "does not fit: ", style="green" if ledger.fits else "red")
    limits = f", stage {ledger.stage + 1} limits" if config.pipeline_parallel_size > 1 else ""
    return Group(
        Text(
            f"{facts.name} on {gpu.product}, {layout_text(config)}, vLLM {config.engine_version}{limits}", style="bold"
        ),
        verdict.append(ledger.reason, style="default"),
        Text(""),
        MemoryBar(ledger),
        _heading("KV cache of one GPU"),
        _terms(kv_cache_terms(ledger, config)),
        _heading("What the budget leaves"),
        _terms(remainder_terms(ledger)),
        Text(f"\n{ledger.kv_cache_tokens:,} KV tokens, as the engine's log states them", style="dim"),
        *_observed(corrections),
    )


def predicted_view(
    facts: ModelFacts,
    gpu: Accelerator,
    config: ResolvedConfig,
    prediction: Prediction,
    objectives: Objectives,
    corrections: Corrections | None = None,
) -> RenderableType:
    """A prediction below what it is of."""
    title = f"{facts.name} on {gpu.product}, {layout_text(config)}, vLLM {config.engine_version}"
    line = Text(f"load line {prediction.load_line_rps:.3g} req/s")
    return Group(Text(title, style="bold"), prediction_view(prediction, objectives), line, *_observed(corrections))


def _observed(corrections: Corrections | None) -> Iterator[RenderableType]:
    """What was observed, beside what was predicted without and with it."""
    if corrections is None:
        return
    figures = ("measured", "predicted", "error", "corrected", "error left")
    table = _table("observed", *figures, right=figures)
    for row in corrections.report():
        errors = (f"{row.error_before:+.1f} %", f"{row.error_after:+.1f} %")
        table.add_row(
            row.what, f"{row.measured:.4g}", f"{row.predicted:.4g}", errors[0], f"{row.corrected:.4g}", errors[1]
        )
    yield Text("")
    yield table


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
    figures = ("mean", "90 % interval", "p50", "p90", "p95", "p99", "objective")
    table = _table("", *figures, right=figures)
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
            table.add_row(variation.change, Text(f"none: {short_name(variation.why_none)}", style="red"), "-")
        else:
            then = f"{short_name(fleet_text(variation.answer))}, load line {variation.answer.load_line_rps:.3g} req/s"
            table.add_row(variation.change, then, f"{variation.answer.cost.per_hour:.2f}")
    return Group(_heading("What would change the answer"), table)


def show(view: RenderableType) -> None:
    """Print to the terminal; where there is none, without colours and as wide as a document."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = DOCUMENT_WIDTH
    console.print(view)


def as_plain_text(view: RenderableType) -> str:
    """The view without colours, for a file."""
    console = Console(file=StringIO(), width=DOCUMENT_WIDTH, color_system=None, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()
