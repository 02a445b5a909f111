"""Sections that the pages of all three commands share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from plimsoll_cli.report.figures import duration_text
from plimsoll_cli.report.parts import Section
from plimsoll_cli.report.tables import table
from plimsoll_cli.sizing.arguments import serve_command
from plimsoll_cli.sizing.page_charts import Mark, curve_chart, memory_bars
from plimsoll_recommender import MemoryLedger, ModelFacts, Objectives, Prediction, ResolvedConfig
from plimsoll_recommender.explanation.arithmetic import Term, kv_cache_terms, remainder_terms
from plimsoll_recommender.explanation.ranks import ranks_of
from plimsoll_recommender.latency.curve import CurvePoint

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections


def memory_section(title: str, facts: ModelFacts, config: ResolvedConfig, ledger: MemoryLedger) -> Section:
    """A bar per kind of GPU of a replica."""
    ranks = ranks_of(facts, config, ledger)
    note = ledger.reason.rstrip(".") + "."
    if len(ranks) > 1:
        note += " Every stage keeps as many KV blocks as the limiting one."
    return Section(title, memory_bars(ranks), note)


def curve_sections(
    objectives: Objectives,
    mark: Mark,
    curve: Sequence[CurvePoint],
    neighbours: Sequence[tuple[str, Sequence[CurvePoint]]] = (),
    remark: str = "",
) -> list[Section]:
    """TTFT and TPOT against the request rate of one replica, beside each other, with a remark below."""
    note = "Requests per second of one replica in an open loop. The band is the 90 % interval of the prediction itself."
    if neighbours:
        note += " Dashed lines are the same GPU with half and twice the tensor parallelism."
    note += remark
    return [
        Section(
            f"{name.upper()} at p{objectives.percentile:g} against throughput",
            curve_chart(name, objectives, mark, curve, neighbours),
            note,
            half=True,
        )
        for name in ("ttft", "tpot")
    ]


def kv_section(ledger: MemoryLedger, config: ResolvedConfig) -> Section:
    """The arithmetic from the GPU's memory to sequences."""
    note = f"{ledger.kv_cache_tokens:,} KV tokens, as the engine's log states them."
    return _arithmetic("From GPU memory to sequences", kv_cache_terms(ledger, config), note)


def remainder_section(ledger: MemoryLedger) -> Section:
    """The arithmetic of what the budget leaves."""
    return _arithmetic("What the budget leaves", remainder_terms(ledger), "Everything in GiB of one GPU.")


def _arithmetic(title: str, terms: Sequence[Term], note: str) -> Section:
    rows = "".join(
        f"<tr{_strong(term)}><td>{escape(term.sign)} {escape(term.name)}</td>"
        f"<td>{escape(term.value)} {escape(term.unit)}</td>"
        f'<td class="text soft">{escape(term.source)}</td></tr>'
        for term in terms
    )
    return Section(title, f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>', note, half=True)


def _strong(term: Term) -> str:
    return ' class="strong"' if term.sign == "=" else ""


def prediction_section(title: str, predicted: Prediction, objectives: Objectives) -> Section:
    """Latencies with their percentiles, and the throughput."""
    rows = []
    for name in ("ttft", "tpot", "e2e"):
        latency, target = getattr(predicted, name), getattr(objectives, name)
        interval = f"{duration_text(latency.low)} to {duration_text(latency.high)}"
        points = (latency.p50, latency.p90, latency.p95, latency.p99)
        remark = "-" if target is None else f"p{objectives.percentile:g} {duration_text(target)}"
        rows.append([name.upper(), duration_text(latency.mean), interval, *map(duration_text, points), remark])
    body = table(["", "mean", "90 % interval", "p50", "p90", "p95", "p99", "objective"], rows)
    return Section(title, body, _throughput(predicted), half=True)


def _throughput(predicted: Prediction) -> str:
    through = predicted.throughput
    return (
        f"{through.requests_per_second:.3g} requests/s, {through.output_tokens_per_second:,.0f} output tokens/s, "
        f"{predicted.running:.0f} sequences running, {predicted.kv_cache_usage:.0%} of the KV cache in use; limited by "
        f"{predicted.bound}. The interval is of the prediction (nine of ten), the percentiles are over requests."
    )


def observed_sections(corrections: Corrections | None) -> list[Section]:
    """What was observed, beside what was predicted without and with it; nothing when nothing was."""
    if corrections is None:
        return []
    rows = [
        [
            row.what,
            f"{row.measured:.4g}",
            f"{row.predicted:.4g}",
            f"{row.error_before:+.1f} %",
            f"{row.corrected:.4g}",
            f"{row.error_after:+.1f} %",
        ]
        for row in corrections.report()
    ]
    header = ["observed", "measured", "predicted", "error", "corrected", "error left"]
    return [Section("What was observed", table(header, rows), "The answer rests on the corrected predictions.")]


def commands_section(command: str, model: str, config: ResolvedConfig) -> Section:
    """The command that asks again, and the engine's."""
    body = (
        f"<p>Ask this again:</p><pre>{escape(command)}</pre>"
        f"<p>Start one replica:</p><pre>{escape(serve_command(model, config))}</pre>"
    )
    return Section("Commands", body)
