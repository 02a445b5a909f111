"""max_tokens by task against one for all that cuts off as many: what is cut off later, and what is reserved."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.figures import Context, Figure
from plimsoll_recommender import EngineConfig, ModelFacts, ObservedRequest, Task, accelerator, task_clusters

QUANTILES: Final = (0.95, 0.99)

COVERAGE_POINTS: Final = 1.0
"""Most that the share of later requests that is not cut off may differ from the asked one, in points."""

FLEETS: Final = ("m-large", "m-mid")
DRAWN: Final = 1500
"""Requests drawn from each window of six hours of a fleet's statistics: two weeks, 56 windows."""


def azure(data: Path, *names: str) -> NDArray[Any]:
    """(input, output) tokens of the Azure traces of 2023 merged by time, shape (n, 2)."""
    rows = []
    for name in names:
        path = data / "traces" / "azure2023" / f"AzureLLMInferenceTrace_{name}.csv"
        with path.open(encoding="utf-8") as stream:
            rows += [
                (row["TIMESTAMP"], int(row["ContextTokens"]), int(row["GeneratedTokens"]))
                for row in csv.DictReader(stream)
            ]
    return np.array([lengths for _, *lengths in sorted(rows)])


def servegen(data: Path, fleet: str, seed: int) -> list[NDArray[Any]]:
    """Requests of each window drawn from a fleet's statistics per client and window, shape (n, 2) each.

    The statistics give mean, median, p90 and p99 of both lengths of a client in six hours; a length is drawn by
    interpolating its logarithm between them (from half the median below, to 1.3 times p99 above), and input and output
    of one request are drawn apart.
    """
    rows = list(_windows(data / "traces" / "servegen" / f"lenstats_language_{fleet}.csv.gz"))
    random = np.random.default_rng(seed)
    windows = []
    for start in sorted({row[0] for row in rows}):
        known = [row for row in rows if row[0] == start]
        rates = np.array([row[1] for row in known])
        drawn = random.choice(len(known), DRAWN, p=rates / rates.sum())
        windows.append(np.array([[_length(random, lengths) for lengths in known[place][2:]] for place in drawn]))
    return windows


def _windows(path: Path) -> Iterator[tuple[float, float, Sequence[float], Sequence[float]]]:
    """(start, requests/s, quantiles of the input, quantiles of the output) of each client's window."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        next(stream)
        for line in stream:
            cells = line.strip().split(",")
            start, rate = float(cells[1]), float(cells[2])
            found = {}
            for place in range(3, len(cells) - 4, 5):
                found[cells[place]] = [float(value) for value in cells[place + 2 : place + 5]]
            if rate > 0 and {"input_tokens", "output_tokens"} <= found.keys():
                yield start, rate, found["input_tokens"], found["output_tokens"]


def _length(random: np.random.Generator, quantiles: Sequence[float]) -> int:
    median, p90, p99 = (max(value, 1.0) for value in quantiles)
    logs = np.log([max(0.5 * median, 1.0), median, p90, p99, 1.3 * p99])
    return max(1, round(float(np.exp(np.interp(random.random(), [0, 0.5, 0.9, 0.99, 1], logs)))))


def halves(lengths: NDArray[Any]) -> list[NDArray[Any]]:
    """The earlier and the later half."""
    return [lengths[: len(lengths) // 2], lengths[len(lengths) // 2 :]]


def figures_of(name: str, parts: Sequence[NDArray[Any]], quantile: float) -> list[Figure]:
    """Coverage of each part and what is reserved in it, tasks found in the part before (and corrected by it).

    What is saved is against the one max_tokens that, known in hindsight, covers as many of the same requests.
    """
    late = np.concatenate(parts[1:])
    asked, reasons = [], []
    model = None
    for early, later in itertools.pairwise(parts):
        seen = [ObservedRequest(*map(int, row)) for row in early]
        model = task_clusters(seen, quantile=quantile, previous=model)
        asked.append(model.max_tokens(later[:, 0]))
        reasons.append(model.reason or f"{len(model.tasks)} tasks")
    by_task = np.concatenate(asked)
    covered = float((late[:, 1] <= by_task).mean())
    one = int(np.quantile(late[:, 1], covered, method="higher"))
    kv, kv_alone = (float((limit + late[:, 0]).mean()) for limit in (by_task, one))
    detail = f"{len(parts[0])} requests, then {len(late)} in {len(parts) - 1} parts; first: {reasons[0]}"
    what = f"{name}, {quantile:.0%}"
    return [
        Figure(f"{what}: coverage of later requests, points off", abs(covered - quantile) * 100, "points",
               COVERAGE_POINTS, "<=", f"{covered * 100:.2f} % covered; {detail}"),
        Figure(f"{what}: output tokens reserved, saved", float(1 - by_task.mean() / one) * 100, "%", None, ">=",
               f"mean {by_task.mean():.0f}; one max_tokens that cuts off as many, in hindsight: {one}"),
        Figure(f"{what}: KV tokens reserved, saved", (1 - kv / kv_alone) * 100, "%", None, ">=",
               f"mean {kv:.0f} against {kv_alone:.0f} tokens a request"),
    ]  # fmt: skip


def gib_figures(lengths: NDArray[Any]) -> list[Figure]:
    """KV cache that a request of each task reserves on one H100 with Llama-3.1-8B."""
    model = task_clusters([ObservedRequest(*map(int, row)) for row in lengths], quantile=0.95)
    facts, gpu = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct"), accelerator("H100")

    def gib(task: Task) -> float:
        return task.reserved_gib(facts, gpu, EngineConfig())

    mean = sum(task.share * gib(task) for task in model.tasks)
    detail = "Llama-3.1-8B on H100; tasks " + ", ".join(
        f"{task.share:.0%} {task.max_tokens} tokens {gib(task):.2f} GiB" for task in model.tasks
    )
    return [Figure("KV cache reserved per request by task, mean", mean, "GiB", gib(model.whole), "<=", detail)]


def run(context: Context) -> list[Figure]:
    """Tasks on the Azure traces and on two fleets of ServeGen."""
    if context.data is None:
        context.skipped.append("tasks of traces: give --data")
        return []
    both = azure(context.data, "conv", "code")
    traces = {
        "Azure chat": halves(azure(context.data, "conv")),
        "Azure code": halves(azure(context.data, "code")),
        "Azure chat and code": halves(both),
    }
    for fleet in FLEETS:
        windows = servegen(context.data, fleet, context.seed)
        traces[f"ServeGen {fleet}"] = windows[:4] if context.quick else windows
    quantiles = QUANTILES[:1] if context.quick else QUANTILES
    figures = [
        figure for name, parts in traces.items() for share in quantiles for figure in figures_of(name, parts, share)
    ]
    return figures + gib_figures(both)
