"""Answers on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from plimsoll_cli.report.figures import count_and_noun, duration_text
from plimsoll_recommender import Accelerator, Latency, MemoryLedger, ModelFacts, Objectives, Prediction, Recommendation

BAR_WIDTH = 64
"""Characters of the memory bar: leaves room for labels on 80 columns."""

PARTS = (
    ("weights", "weights_gib", "blue"),
    ("KV cache", "kv_cache_gib", "green"),
    ("activations", "activation_peak_gib", "yellow"),
    ("CUDA graphs", "cuda_graphs_gib", "magenta"),
    ("workspaces", "non_torch_gib", "red"),
    ("CUDA context", "context_gib", "bright_black"),
)
"""What the bar shows: label, field of the ledger, colour."""


def parts_of(ledger: MemoryLedger) -> list[tuple[str, float, str]]:
    """(label, GiB, colour) of everything on the GPU, what is free last."""
    parts = [(label, float(getattr(ledger, field)), colour) for label, field, colour in PARTS]
    free = ledger.gpu_total_gib - sum(size for _, size, _ in parts)
    return [*parts, ("free", max(0.0, free), "white")]


def memory_bar(ledger: MemoryLedger) -> RenderableType:
    """One bar of the whole GPU with a legend."""
    bar, legend = Text(), Text()
    total = max(ledger.gpu_total_gib, sum(size for _, size, _ in parts_of(ledger)))
    for label, size, colour in parts_of(ledger):
        bar.append(("░" if label == "free" else "█") * round(size / total * BAR_WIDTH), style=colour)
        legend.append("■ ", style=colour)
        legend.append(f"{label} {size:.2f}  ")
    return Group(bar, legend)


def ledger_view(facts: ModelFacts, gpu: Accelerator, ledger: MemoryLedger) -> RenderableType:
    """The ledger as a table with its bar."""
    table = Table(title=f"{facts.name} on {gpu.product}: GiB per GPU", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, value, remark in _ledger_rows(ledger):
        table.add_row(name, value, remark)
    verdict = Text(
        ("fits: " if ledger.fits else "does not fit: ") + ledger.reason, style="green" if ledger.fits else "red"
    )
    return Group(table, memory_bar(ledger), verdict)


def _ledger_rows(ledger: MemoryLedger) -> Iterator[tuple[str, str, str]]:
    share = ledger.requested_gib / ledger.gpu_total_gib
    yield "total", f"{ledger.gpu_total_gib:.2f}", "what the driver reports"
    yield "allowed", f"{ledger.requested_gib:.2f}", f"gpu_memory_utilization {share:.2f}"
    yield "weights", f"{ledger.weights_gib:.2f}", ""
    yield "activation peak", f"{ledger.activation_peak_gib:.2f}", "profile run: forward pass and sampler"
    yield "workspaces", f"{ledger.non_torch_gib:.2f}", "outside torch"
    budgeted = "taken from the KV cache" if ledger.cuda_graphs_in_budget else "beside the allowed memory"
    yield "CUDA graphs", f"{ledger.cuda_graphs_gib:.2f}", budgeted
    interval = f"90 %: {ledger.kv_cache_low_gib:.2f} to {ledger.kv_cache_high_gib:.2f}"
    yield "KV cache", f"{ledger.kv_cache_gib:.2f}", interval
    yield (
        "KV blocks",
        f"{ledger.kv_cache_blocks:,}",
        f"{ledger.block_size} tokens, {ledger.bytes_per_block:,} B each",
    )
    yield "KV tokens", f"{ledger.kv_cache_tokens:,}", f"{ledger.max_concurrency:.2f} sequences of max_model_len"


def latency_table(prediction: Prediction, objectives: Objectives) -> Table:
    """TTFT, TPOT and E2E with percentiles beside the objectives."""
    table = Table(show_edge=False)
    for column in ("", "mean", "90 % interval", "p50", "p90", "p95", "p99", "objective"):
        table.add_column(column, justify="left" if not column else "right")
    for name, latency, target in (
        ("TTFT", prediction.ttft, objectives.ttft),
        ("TPOT", prediction.tpot, objectives.tpot),
        ("E2E", prediction.e2e, objectives.e2e),
    ):
        table.add_row(name, *_latency_cells(latency), _target_cell(latency, target, objectives.percentile))
    return table


def _latency_cells(latency: Latency) -> list[str]:
    interval = f"{duration_text(latency.low)} to {duration_text(latency.high)}" if math.isfinite(latency.mean) else "-"
    points = (latency.p50, latency.p90, latency.p95, latency.p99)
    return [duration_text(latency.mean), interval, *map(duration_text, points)]


def _target_cell(latency: Latency, target: float | None, percentile: float) -> str:
    if target is None:
        return ""
    met = latency.at(percentile) <= target * 1.001
    return f"[{'green' if met else 'red'}]p{percentile:g} {duration_text(target)}[/]"


def prediction_view(prediction: Prediction, objectives: Objectives) -> RenderableType:
    """A prediction: latencies, throughput, what limits."""
    through = prediction.throughput
    line = (
        f"{through.requests_per_second:.3g} req/s, {through.output_tokens_per_second:,.0f} output tokens/s; "
        f"{prediction.running:.1f} running, {prediction.waiting:.1f} waiting, "
        f"KV cache {prediction.kv_cache_usage:.0%}; limited by {prediction.bound}; "
        f"load line {prediction.load_line_rps:.3g} req/s"
    )
    parts: list[RenderableType] = [latency_table(prediction, objectives), Text(line)]
    if prediction.saturated:
        parts.append(Text("more is asked than one replica carries: the queue grows", style="red"))
    return Group(*parts)


def recommendation_view(facts: ModelFacts, answer: Recommendation, objectives: Objectives) -> RenderableType:
    """A recommendation: the fleet, why each field, memory, prediction, alternatives."""
    config = answer.config
    stages = f" x PP {config.pipeline_parallel_size}" if config.pipeline_parallel_size > 1 else ""
    head = Text(
        f"{facts.name}: {answer.replicas} x {answer.accelerator.product} TP {config.tensor_parallel_size}{stages}, "
        f"{count_and_noun(answer.cost.gpus, 'GPU')}, {answer.cost.per_hour:.2f}/h",
        style="bold",
    )
    million = answer.cost.per_million_output_tokens
    cost = f", {million:.2f} per million output tokens" if million is not None else ""
    line = Text(
        f"load line {answer.load_line_rps:.3g} req/s per replica ({answer.load_line_concurrency:.0f} in flight){cost}\n"
        f"confidence {answer.confidence}: {answer.confidence_why}"
    )
    reasons = Table(title="Why", title_justify="left")
    for column in ("field", "value", "because"):
        reasons.add_column(column, overflow="fold")
    for reason in answer.reasons:
        rejected = "".join(f"\n[dim]not {text}[/]" for text in reason.rejected[:3])
        reasons.add_row(reason.field, reason.value, reason.because + rejected)
    others = Table(title="Considered", title_justify="left")
    for column in ("configuration", "per hour", "rejected because"):
        others.add_column(column, justify="right" if column == "per hour" else "left", overflow="fold")
    for item in answer.alternatives:
        price = "" if item.hourly_cost is None else f"{item.hourly_cost:.2f}"
        others.add_row(item.summary, price, item.rejected_because)
    at_line = Text(f"\nOne replica at its load line of {answer.predicted_at:.3g} req/s", style="italic")
    memory = Text("\nMemory of one GPU, GiB", style="italic")
    shown = (memory, memory_bar(answer.ledger), at_line, prediction_view(answer.predicted, objectives))
    return Group(head, line, reasons, *shown, *([others] if answer.alternatives else []))


def show(view: RenderableType) -> None:
    """Print to the terminal."""
    Console().print(view)
