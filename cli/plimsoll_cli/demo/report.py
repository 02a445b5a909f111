"""The demo's one-page report: how the service followed its traffic, and what its users saw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from plimsoll_cli.demo.scenario import Phase
from plimsoll_cli.demo.snapshot import Snapshot
from plimsoll_cli.demo.verdict import ScalingOutcome
from plimsoll_cli.load.html import load_sections
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.statistics import Summary, series
from plimsoll_cli.report.charts import Band, Line, timeseries
from plimsoll_cli.report.page import Section, Tile, page
from plimsoll_cli.report.tables import table

SECONDS_PER_HOUR = 3600.0


def gpu_hours(snapshots: Sequence[Snapshot], gpus_per_replica: int) -> float:
    """GPU-hours billed: every pod that exists counts, also while it starts and while it drains."""
    total = 0.0
    for before, after in pairwise(snapshots):
        pods = before.ready + before.pending + before.draining
        total += pods * gpus_per_replica * (after.at - before.at) / SECONDS_PER_HOUR
    return total


def peak_gpu_hours(snapshots: Sequence[Snapshot], gpus_per_replica: int) -> float:
    """GPU-hours that a fixed fleet of the peak's size would have been billed over the same time."""
    if not snapshots:
        return 0.0
    peak = max(snapshot.ready for snapshot in snapshots)
    return peak * gpus_per_replica * (snapshots[-1].at - snapshots[0].at) / SECONDS_PER_HOUR


def headline(summary: Summary, scaling: ScalingOutcome, saved: float) -> str:
    """The run in one sentence."""
    attainment = "unknown" if summary.attainment is None else f"{summary.attainment * 100:.1f} %"
    return (
        f"{summary.sent} requests, {summary.failed + summary.timed_out} failed, {summary.truncated} truncated; "
        f"attainment {attainment}; replicas {scaling.first} -> {scaling.peak} -> {scaling.last}; "
        f"{saved_text(saved)} GPU-hours than a fleet fixed at the peak"
    )


def saved_share(snapshots: Sequence[Snapshot], gpus_per_replica: int) -> float:
    """Share of the fixed fleet's GPU-hours that was not used."""
    fixed = peak_gpu_hours(snapshots, gpus_per_replica)
    return 0.0 if fixed == 0 else 1 - gpu_hours(snapshots, gpus_per_replica) / fixed


def saved_text(share: float) -> str:
    """A saved share in words; pods that start and never serve can make it a loss."""
    return f"{abs(share) * 100:.0f} % {'fewer' if share >= 0 else 'more'}"


def build(
    *,
    service: str,
    status: dict[str, Any],
    snapshots: Sequence[Snapshot],
    result: LoadResult,
    summary: Summary,
    scaling: ScalingOutcome,
    failures: Sequence[str],
    gpus_per_replica: int,
    phases: Sequence[Phase],
) -> str:
    """The page as HTML."""
    bands = _bands(phases)
    saved = saved_share(snapshots, gpus_per_replica)
    verdict = "Passed" if not failures else "Failed: " + "; ".join(failures)
    tiles = [
        Tile(verdict.split(":")[0], "verdict", "bad" if failures else "good"),
        Tile(f"{scaling.first} -> {scaling.peak} -> {scaling.last}", "replicas at first, peak, end"),
        Tile(str(summary.truncated), "truncated streams", "bad" if summary.truncated else "good"),
        Tile(saved_text(saved), "GPU-hours than fixed at the peak"),
    ]
    sections = [
        Section("Replicas followed the traffic", _replicas_chart(snapshots, result, bands), "Shaded: the burst."),
        Section("Queue and running requests", _queue_chart(snapshots, bands)),
        Section("What it decided, and why", _history_table(status)),
        Section("The configuration it chose", _recommendation_table(status)),
        *load_sections(result, summary),
    ]
    text = f"{headline(summary, scaling, saved)}." + ("" if not failures else f" {verdict}.")
    return page(f"Plimsoll demo: {service}", text, sections, tiles)


def _bands(phases: Sequence[Phase]) -> list[Band]:
    bands, began = [], 0.0
    for number, phase in enumerate(phases):
        if number % 2:
            bands.append(Band(began, began + phase.seconds, phase.name))
        began += phase.seconds
    return bands


def _replicas_chart(snapshots: Sequence[Snapshot], result: LoadResult, bands: Sequence[Band]) -> str:
    at = [snapshot.at for snapshot in snapshots]
    offered = series(result)
    lines = [
        Line("wanted", at, [s.wanted for s in snapshots], stepped=True, dash=True),
        Line("ready", at, [s.ready for s in snapshots], stepped=True),
        Line("pending", at, [s.pending for s in snapshots], stepped=True),
        Line("draining", at, [s.draining for s in snapshots], stepped=True),
        Line("requests/s offered", offered.at, offered.offered, right=True),
    ]
    return timeseries(lines, y_title="replicas", right_title="requests/s", bands=bands)


def _queue_chart(snapshots: Sequence[Snapshot], bands: Sequence[Band]) -> str:
    at = [snapshot.at for snapshot in snapshots]
    lines = [
        Line("waiting", at, [s.waiting for s in snapshots]),
        Line("running", at, [s.running for s in snapshots]),
    ]
    return timeseries(lines, y_title="requests", bands=bands)


def _history_table(status: dict[str, Any]) -> str:
    rows = [
        [entry["at"], f"{entry['before']} -> {entry['after']}", entry["reason"], entry.get("message", "")]
        for entry in reversed(status.get("history") or [])
    ]
    return table(["at", "replicas", "reason", "because"], rows, text_columns=[2, 3])


def _recommendation_table(status: dict[str, Any]) -> str:
    reasons = (status.get("recommendation") or {}).get("reasons") or []
    rows = [[reason["field"], reason["value"], reason["because"]] for reason in reasons]
    return table(["field", "value", "because"], rows, text_columns=[2])
