"""A recommendation as one self-contained page."""

from __future__ import annotations

import plotly.graph_objects as go

from plimsoll_cli.report.charts import PALETTE
from plimsoll_cli.report.figures import duration_text
from plimsoll_cli.report.page import Section, Tile, page
from plimsoll_cli.report.tables import table
from plimsoll_cli.sizing.terminal import parts_of
from plimsoll_recommender import MemoryLedger, Objectives, Recommendation
from plimsoll_recommender.latency.curve import CurvePoint


def recommendation_page(model: str, answer: Recommendation, objectives: Objectives, curve: list[CurvePoint]) -> str:
    """The page: fleet, memory bar, latency against throughput, reasons, alternatives.

    Args:
        model: the model's name.
        answer: the recommendation.
        objectives: what it meets.
        curve: latencies of one replica over its request rate.
    """
    config = answer.config
    summary = (
        f"{answer.replicas} x {answer.accelerator.product}, tensor parallel {config.tensor_parallel_size}, carries "
        f"{answer.load_line_rps:.3g} requests/s per replica for {answer.cost.per_hour:.2f} per hour."
    )
    tiles = [
        Tile(str(answer.cost.gpus), "GPUs"),
        Tile(f"{answer.cost.per_hour:.2f}", "per hour"),
        Tile(f"{answer.load_line_rps:.3g}/s", "load line of a replica"),
        Tile(duration_text(answer.predicted.ttft.at(objectives.percentile)), f"TTFT p{objectives.percentile:g}"),
        Tile(duration_text(answer.predicted.tpot.at(objectives.percentile)), f"TPOT p{objectives.percentile:g}"),
        Tile(answer.confidence, "confidence"),
    ]
    reasons = [[r.field, r.value, r.because, "; ".join(r.rejected)] for r in answer.reasons]
    others = [
        [a.summary, "" if a.hourly_cost is None else f"{a.hourly_cost:.2f}", a.rejected_because]
        for a in answer.alternatives
    ]
    sections = [
        Section("Memory of one GPU", _bar(answer.ledger), answer.ledger.reason),
        Section("Latency against throughput, one replica", _curve(answer, objectives, curve), answer.confidence_why),
        Section("Why", table(["field", "value", "because", "rejected"], reasons, text_columns=(1, 2, 3))),
        Section("Considered", table(["configuration", "per hour", "rejected because"], others, text_columns=(2,))),
    ]
    return page(f"Recommendation for {model}", summary, sections, tiles)


def _bar(ledger: MemoryLedger) -> str:
    figure = go.Figure()
    for index, (label, size, _) in enumerate(parts_of(ledger)):
        colour = PALETTE[index % len(PALETTE)] if label != "free" else "#e8edf1"
        figure.add_trace(
            go.Bar(x=[size], y=["GPU"], orientation="h", name=f"{label} {size:.2f} GiB", marker={"color": colour})
        )
    figure.update_layout(barmode="stack", height=170, margin={"l": 40, "r": 10, "t": 10, "b": 30}, xaxis_title="GiB")
    return str(figure.to_html(full_html=False, include_plotlyjs=False))


def _curve(answer: Recommendation, objectives: Objectives, curve: list[CurvePoint]) -> str:
    figure = go.Figure()
    rates = [point.rate for point in curve]
    named = (
        ("TTFT", [point.ttft for point in curve], objectives.ttft),
        ("TPOT", [point.tpot for point in curve], objectives.tpot),
    )
    for index, (name, values, target) in enumerate(named):
        figure.add_trace(go.Scatter(x=rates, y=values, name=name, line={"color": PALETTE[index]}))
        if target is not None:
            figure.add_hline(
                y=target, line={"color": PALETTE[index], "dash": "dash"}, annotation_text=f"{name} objective"
            )
    figure.add_vline(x=answer.load_line_rps, line={"color": "#b3261e"}, annotation_text="load line")
    figure.update_layout(
        height=320,
        margin={"l": 50, "r": 10, "t": 20, "b": 40},
        xaxis_title="requests per second",
        yaxis={"type": "log", "title": f"seconds at p{objectives.percentile:g}"},
    )
    return str(figure.to_html(full_html=False, include_plotlyjs=False))
