"""The HTML report of a load test."""

from __future__ import annotations

from typing import Final

import numpy as np

from plimsoll_cli.load.document import timestamp
from plimsoll_cli.load.plan import Objectives
from plimsoll_cli.load.records import Floats, LoadResult
from plimsoll_cli.load.statistics import (
    LAG_LIMIT_SECONDS,
    SERIES_WINDOW_SECONDS,
    Percentiles,
    Summary,
    e2e_seconds,
    series,
    tpot_seconds,
    ttft_seconds,
)
from plimsoll_cli.load.terminal import has_limits, headline, is_met
from plimsoll_cli.report.charts import Limit, Line, cumulative, ranked, timeseries
from plimsoll_cli.report.figures import duration_text, share_text
from plimsoll_cli.report.page import Section, Tile, Tone, page
from plimsoll_cli.report.tables import percentile_table, table

_MS: Final = 1000.0
_SHORT_TEST_SECONDS: Final = 60.0
_FINE_WINDOW_SECONDS: Final = 1.0
_SECONDS_FROM: Final = 2.0
"""Durations (s) from which a chart reads better in seconds than in milliseconds."""


def report(result: LoadResult, summary: Summary) -> str:
    """The page for one test."""
    plan = result.plan
    return page(
        f"Load test of {plan.model}",
        headline(summary, plan.objectives) + ".",
        load_sections(result, summary),
        _tiles(summary, plan.objectives),
    )


def load_sections(result: LoadResult, summary: Summary) -> list[Section]:
    """What a test showed, as sections that other reports can hold too."""
    objectives = result.plan.objectives
    sections = [
        Section("Latency from the scheduled time", latency_table(summary, objectives), _lag_note(summary)),
        _traffic_section(result),
        _ttft_section(result),
        _token_section(result),
        _whole_section(result),
    ]
    if summary.errors:
        rows = [[str(count), text] for text, count in summary.errors.items()]
        sections.append(Section("Errors", table(["requests", "error"], rows, text_columns=[1])))
    sections.append(Section("The test", _plan_table(result, summary)))
    return sections


def latency_table(summary: Summary, objectives: Objectives) -> str:
    """TTFT, TPOT, ITL and E2E in percentiles beside their objectives."""

    def row(name: str, values: Percentiles, field: str, limit: float | None) -> tuple[str, list[float | None], str]:
        figures = [values.mean, values.p50, values.p90, values.p95, values.p99, values.maximum]
        if limit is None:
            return name, figures, ""
        verdict = "met" if is_met(field, summary, objectives) else "missed"
        at, within = summary.at_percentile[field], share_text(summary.within[field] or 0.0)
        text = f"p{objectives.percentile} {duration_text(at)}, {within} within {duration_text(limit)}: {verdict}"
        return name, figures, text

    rows = [
        row("TTFT", summary.ttft, "ttft", objectives.ttft),
        row("TTFT from send", summary.ttft_from_send, "", None),
        row("TPOT", summary.tpot, "tpot", objectives.tpot),
        row("ITL", summary.itl, "", None),
        row("E2E", summary.e2e, "e2e", objectives.e2e),
    ]
    return percentile_table(rows, ["mean", "p50", "p90", "p95", "p99", "max"])


def _tiles(summary: Summary, objectives: Objectives) -> list[Tile]:
    tone: Tone = "bad" if summary.misses else "good"
    tiles = [
        Tile(f"{summary.sent:,}", "requests sent"),
        Tile(str(summary.misses), "without a whole answer", tone),
        Tile(f"{summary.completed_rate:.2f}/s", "completed"),
        Tile(f"{summary.output_tokens_per_second:,.0f}/s", "output tokens"),
    ]
    if has_limits(objectives) and summary.attainment is not None:
        met: Tone = "good" if summary.attainment >= objectives.attainment else "bad"
        tiles += [
            Tile(share_text(summary.attainment), f"attainment, {share_text(objectives.attainment)} wanted", met),
            Tile(f"{summary.goodput:.2f}/s", "goodput"),
        ]
    return tiles


def _traffic_section(result: LoadResult) -> Section:
    over_time = series(result, _window(result))
    lines = [
        Line("offered", over_time.at, over_time.offered, stepped=True),
        Line("completed", over_time.at, over_time.completed, stepped=True),
        Line("in flight (right)", over_time.at + over_time.window, over_time.in_flight, dash=True, right=True),
    ]
    if over_time.failed.any():
        lines.append(Line("failed or truncated", over_time.at, over_time.failed, stepped=True))
    chart = timeseries(lines, y_title="requests/s", right_title="in flight")
    return Section("Traffic", chart, f"Windows of {over_time.window:g} s.")


def _window(result: LoadResult) -> float:
    """Seconds per point: finer for a short test."""
    return _FINE_WINDOW_SECONDS if result.elapsed < _SHORT_TEST_SECONDS else SERIES_WINDOW_SECONDS


def _ttft_section(result: LoadResult) -> Section:
    over_time, objective = series(result, _window(result)), result.plan.objectives.ttft
    scale, unit = _unit(over_time.ttft_p95)
    lines = [
        Line("p50", over_time.at, over_time.ttft_p50 * scale),
        Line("p95", over_time.at, over_time.ttft_p95 * scale),
    ]
    limits = [] if objective is None else [Limit(objective * scale, f"objective {duration_text(objective)}")]
    chart = timeseries(lines, y_title=f"TTFT ({unit})", limits=limits)
    return Section(
        "Time to first token", chart, "By the time a request was scheduled; gaps are windows without requests."
    )


def _unit(seconds: Floats) -> tuple[float, str]:
    """The factor and the unit that a series of durations reads best in."""
    longest = np.nanmax(seconds, initial=0.0)
    return (1.0, "s") if longest >= _SECONDS_FROM else (_MS, "ms")


def _token_section(result: LoadResult) -> Section:
    middles, counts = result.inter_token.occupied()
    shares = np.cumsum(counts) / max(int(counts.sum()), 1)
    # Tokens that came in one read are 0 apart and have no place on a logarithmic axis: the curve starts above them.
    shown = middles > 0
    tpot, tpot_shares = ranked(tpot_seconds(result.records))
    curves = [
        ("ITL (of tokens)", middles[shown] * _MS, shares[shown]),
        ("TPOT (of requests)", tpot * _MS, tpot_shares),
    ]
    objective = result.plan.objectives.tpot
    limits = [] if objective is None else [Limit(objective * _MS, f"TPOT objective {duration_text(objective)}")]
    chart = cumulative(curves, x_title="ms (logarithmic)", y_title="share at or below (%)", limits=limits, log=True)
    return Section("Between tokens", chart)


def _whole_section(result: LoadResult) -> Section:
    records, objective = result.records, result.plan.objectives.e2e
    chart = cumulative(
        [("E2E", *ranked(e2e_seconds(records))), ("TTFT", *ranked(ttft_seconds(records)))],
        x_title="seconds",
        y_title="share at or below (%)",
        limits=[] if objective is None else [Limit(objective, f"E2E objective {duration_text(objective)}")],
    )
    return Section("Whole answers", chart, "Completed requests only; the misses are counted above.")


def _lag_note(summary: Summary) -> str:
    own, loop = summary.lag, summary.loop_delay
    lag = (
        f"The generator's own scheduling lag: p50 {duration_text(own.p50)}, p99 {duration_text(own.p99)}, "
        f"max {duration_text(own.maximum)}; its event loop ran late by {duration_text(loop.p99)} (p99)."
    )
    if summary.trusted:
        return lag
    limit = duration_text(LAG_LIMIT_SECONDS)
    return f"WARNING: do not trust these figures. {lag} Above {limit} it shows in the latencies."


def _plan_table(result: LoadResult, summary: Summary) -> str:
    plan = result.plan
    rows = [
        ["traffic", plan.label],
        ["endpoint", f"{plan.url} ({plan.api}), model {plan.model}"],
        ["started", timestamp(result.started_at) + (", stopped early" if result.interrupted else "")],
        ["seed", str(plan.seed)],
        ["tokens", f"{summary.input_tokens:,} in (completed requests), {summary.output_tokens:,} out"],
        ["requests per minute", " ".join(map(str, summary.requests_per_minute))],
        ["time-out", duration_text(plan.timeout)],
    ]
    return table(["", ""], rows, text_columns=[1])
