"""The charts of a recommendation's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Final

from plimsoll_cli.report.figures import duration_text
from plimsoll_cli.report.svg import Dot, Frame, Piece, Trace, chart, legend, stacked_bar
from plimsoll_cli.sizing.arguments import short_name
from plimsoll_cli.sizing.bar import FREE, sizes_of
from plimsoll_recommender import Alternative, Latency, Objectives, Prediction, Recommendation
from plimsoll_recommender.explanation.headline import fleet_text
from plimsoll_recommender.explanation.ranks import RankMemory
from plimsoll_recommender.latency.curve import CurvePoint

COLOURS: Final = {
    "weights": "var(--weights)",
    "KV cache": "var(--kv)",
    "activations": "var(--activation)",
    "CUDA graphs": "var(--graphs)",
    "non-torch": "var(--outside)",
    "CUDA context": "var(--context)",
    FREE.label: "var(--free)",
}
"""Parts of the memory bar."""

ROOM: Final = 1.45
"""The axis of latencies ends this much above the objective, or above what is predicted where that is more."""


def memory_bars(ranks: Sequence[RankMemory]) -> str:
    """One bar per kind of rank, with a legend."""
    bars = []
    for rank in ranks:
        total = rank.ledger.gpu_total_gib
        pieces = []
        for part, size in sizes_of(rank.ledger):
            tip = f"{part.label}: {size:.2f} GiB, {size / total:.1%} of {total:.2f} GiB\n{rank.name}"
            if part.label == "KV cache" and rank.limiting:
                tip += f"\n90 % interval {rank.ledger.kv_cache_low_gib:.2f} to {rank.ledger.kv_cache_high_gib:.2f} GiB"
            shown = part.label if part is FREE else f"{part.label} {size:.1f} GiB"
            pieces.append(Piece("" if part is FREE else shown, size, COLOURS[part.label], tip))
        limiting = " (limits the KV blocks)" if rank.limiting and len(ranks) > 1 else ""
        needed = sum(size for _, size in sizes_of(rank.ledger))
        if needed > total * (1 + 1e-9):
            limiting += f": needs {needed:.2f} GiB of {total:.2f}"
        bars.append(f'<p class="note">{escape(rank.name)}{limiting}</p>{stacked_bar(pieces)}')
    sizes = sizes_of(ranks[0].ledger)
    entries = [(f"{part.label} {size:.2f} GiB", COLOURS[part.label]) for part, size in sizes]
    return legend(entries) + "".join(bars)


@dataclass(frozen=True)
class Mark:
    """The point of a curve that a page is about.

    Args:
        rate: requests per second of one replica.
        predicted: what is predicted there.
        label: what it is, for the text beside the pointer.
        load_line: requests per second of the load line.
    """

    rate: float
    predicted: Prediction
    label: str
    load_line: float


def curve_chart(
    name: str,
    objectives: Objectives,
    mark: Mark,
    curve: Sequence[CurvePoint],
    neighbours: Sequence[tuple[str, Sequence[CurvePoint]]] = (),
) -> str:
    """A latency over the request rate of one replica, with the objective, the load line and neighbours.

    Args:
        name: `ttft` or `tpot`.
        objectives: the target, and the percentile.
        mark: the point to show, and the load line.
        curve: of the configuration.
        neighbours: (name, curve) of others.
    """
    target, percentile = getattr(objectives, name), objectives.percentile
    latency: Latency = getattr(mark.predicted, name)
    reached = latency.at(percentile)
    top = ROOM * max(reached if math.isfinite(reached) else getattr(curve[0], name).value, target or 0.0, 1e-3)
    right = 1.35 * max(max(point.rate for point in curve), mark.load_line)
    frame = Frame(
        x_title="requests per second of one replica",
        y_title=f"{name.upper()} p{percentile:g}",
        right=right,
        top=top,
        y_text=_axis_text,
        level=target,
        level_label="" if target is None else f"objective {duration_text(target)}",
        upright=mark.load_line,
        upright_label=f"load line {mark.load_line:.3g}/s",
    )
    traces = [_neighbour_trace(name, label, points, right) for label, points in neighbours]
    traces.append(_main_trace(name, percentile, curve))
    tip = (
        f"{mark.label}: {mark.rate:.3g} req/s\n{name.upper()} p{percentile:g} {duration_text(reached)}, "
        f"p50 {duration_text(latency.p50)}, p99 {duration_text(latency.p99)}"
    )
    dots = [Dot(mark.rate, reached, "", tip, "var(--ink)", strong=True)] if math.isfinite(reached) else []
    return chart(frame, traces, dots)


def _neighbour_trace(name: str, label: str, points: Sequence[CurvePoint], right: float) -> Trace:
    kept = [point for point in points if point.rate <= right]
    values = [getattr(point, name).value for point in kept]
    return Trace(label, [point.rate for point in kept], values, "var(--soft)", faint=True)


def _main_trace(name: str, percentile: float, curve: Sequence[CurvePoint]) -> Trace:
    spreads = [getattr(point, name) for point in curve]
    tips = [
        f"{point.rate:.3g} req/s, {point.output_tokens_per_second:,.0f} output tokens/s\n"
        f"{name.upper()} p{percentile:g} {duration_text(spread.value)} "
        f"({duration_text(spread.low)} to {duration_text(spread.high)})\n{point.running:.0f} running"
        for point, spread in zip(curve, spreads, strict=True)
    ]
    return Trace(
        name.upper(),
        [point.rate for point in curve],
        [spread.value for spread in spreads],
        "var(--accent)",
        lows=[spread.low for spread in spreads],
        highs=[spread.high for spread in spreads],
        tips=tips,
    )


def fleet_chart(objectives: Objectives, answer: Recommendation, dearest: float) -> str:
    """Hourly cost against E2E under the expected load: the choice, the alternatives, and the frontier through them.

    Args:
        objectives: the percentile.
        answer: the recommendation.
        dearest: alternatives that cost more are left out.
    """
    chosen = Dot(answer.cost.per_hour, answer.e2e or math.nan, short_name(fleet_text(answer)), "", "var(--good)", True)
    tip = _fleet_tip(fleet_text(answer), answer.cost.per_hour, objectives, (answer.ttft, answer.tpot, answer.e2e))
    dots = [replace(chosen, tip=f"chosen: {tip}")] if answer.e2e else []
    for item in _others(answer, dearest):
        tip = _fleet_tip(item.summary, item.hourly_cost or 0.0, objectives, (item.ttft, item.tpot, item.e2e))
        if item.rejected_because:
            tip += f"\n{item.rejected_because}"
        label = short_name(item.summary) if item.on_frontier else ""
        colour = "var(--accent)" if item.on_frontier else "var(--context)"
        dots.append(Dot(item.hourly_cost or 0.0, item.e2e or math.nan, label, tip, colour))
    dots = [dot for dot in dots if math.isfinite(dot.y)]
    if not dots:
        return '<p class="note">Nothing considered could be sized.</p>'
    frame = Frame(
        x_title="cost per hour",
        y_title=f"E2E p{objectives.percentile:g} under the expected load",
        right=1.15 * max(dot.x for dot in dots) or 1.0,
        top=1.1 * max(dot.y for dot in dots),
        y_text=_axis_text,
        left=_beginning([dot.x for dot in dots]),
        bottom=_beginning([dot.y for dot in dots]),
    )
    frontier = sorted((item.hourly_cost, item.e2e) for item in answer.pareto if item.hourly_cost and item.e2e)
    kept = [(cost, seconds) for cost, seconds in frontier if cost <= dearest]
    line = Trace("", [cost for cost, _ in kept], [seconds for _, seconds in kept], "var(--accent)", faint=True)
    return chart(frame, [line], dots)


def _others(answer: Recommendation, dearest: float) -> list[Alternative]:
    """The alternatives that could be sized and those of the frontier, without the choice itself and the dearest."""
    found = {item.summary: item for item in (*answer.pareto, *answer.alternatives)}
    found.pop(fleet_text(answer), None)
    mine = (answer.cost.per_hour, answer.e2e)
    return [
        item
        for item in found.values()
        if item.hourly_cost is not None
        and item.e2e is not None
        and item.hourly_cost <= dearest
        and (item.hourly_cost, item.e2e) != mine
    ]


def _beginning(values: Sequence[float]) -> float:
    """Where an axis of points begins: at zero, unless they are all far from it."""
    return 0.0 if min(values) < 0.4 * max(values) else 0.85 * min(values)


def _fleet_tip(
    name: str, cost: float, objectives: Objectives, latencies: tuple[float | None, float | None, float | None]
) -> str:
    ttft, tpot, e2e = map(duration_text, latencies)
    return f"{name}\n{cost:.2f} per hour\nTTFT {ttft}, TPOT {tpot}, E2E {e2e} at p{objectives.percentile:g}"


def _axis_text(seconds: float) -> str:
    """A tick of an axis of seconds."""
    if seconds == 0:
        return "0"
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
