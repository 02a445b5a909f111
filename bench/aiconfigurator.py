"""Side by side with aiconfigurator 0.12: predicted TPOT and TTFT on the measured vLLM runs that both can answer.

aiconfigurator answers from kernel latencies measured on the same kinds of machine as these runs, and its authors
published the runs; ours come from fits that left the run's model out.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import recommender_latency
from bench.aiconfigurator_parts.environment import NotInstalledError
from bench.aiconfigurator_parts.estimates import answers
from bench.figures import Context, Figure
from bench.latency_parts.runs import SYNTHETIC_FP4, Run
from plimsoll_recommender import predict

QUICK_ROWS: Final = 12
"""Rows of the quick version."""


STAND_INS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    SYNTHETIC_FP4: ("nvidia/Llama-3.1-70B-Instruct-FP8", {"gemm_quant_mode": "nvfp4"}),
}
"""A model of the same shape that aiconfigurator knows, and what to change, for one that is only known here."""


@dataclass(frozen=True)
class Answer:
    """aiconfigurator's estimate of a run: seconds, and how long it took."""

    ttft: float
    tpot: float
    seconds: float
    database: str


def query(run: Run) -> dict[str, Any]:
    """A run as aiconfigurator is asked for it: the requests in flight are its batch size, lengths are the mean ones."""
    tensor = run.config.tensor_parallel_size
    experts = any(layer.top_k for layer in run.facts.layers)
    placed = (1, tensor) if run.config.expert_parallel else (tensor, 1)
    path, formats = STAND_INS.get(run.model, (run.model, {}))
    cache = {} if run.config.kv_cache_dtype == "auto" else {"kvcache_quant_mode": run.config.kv_cache_dtype}
    return {
        "model_path": path,
        "system_name": run.system,
        "isl": round(run.workload.input_tokens),
        "osl": round(run.workload.output_tokens),
        "batch_size": int(run.workload.concurrency or 1),
        "tp_size": tensor,
        **({"moe_tp_size": placed[0], "moe_ep_size": placed[1]} if experts else {}),
        **formats,
        **cache,
    }


def estimates(runs: Sequence[Run], skipped: list[str]) -> list[Answer | None]:
    """aiconfigurator's answer to each run, None where it has none; the reasons go to `skipped`.

    Raises:
        NotInstalledError: it cannot be had, crashed, or did not answer in time.
    """
    # The same configuration was measured several times, with several releases: it is asked once.
    found = answers([json.dumps(query(run), sort_keys=True) for run in runs])
    reasons = Counter(item["error"].partition(" at /")[0] for item in found if "error" in item)
    skipped += [f"{count} runs that aiconfigurator cannot answer: {reason}" for reason, count in reasons.items()]
    return [None if "error" in item else Answer(**item) for item in found]


def errors(runs: Sequence[Run], answers: Sequence[Answer]) -> tuple[list[float], list[float], list[str]]:
    """aiconfigurator's absolute errors of TPOT, and of TTFT where no request waits for a slot, in per cent.

    The third is a line per model and GPU with its median error of TPOT.
    """
    pairs = list(zip(runs, answers, strict=True))
    tpot = [abs(answer.tpot / run.tpot - 1) * 100 for run, answer in pairs]
    ttft = [abs(answer.ttft / run.ttft - 1) * 100 for run, answer in pairs if run.residuals(None)[1] is not None]
    groups: dict[str, list[float]] = {}
    for (run, _), error in zip(pairs, tpot, strict=True):
        groups.setdefault(f"{run.model} on {run.gpu.product}", []).append(error)
    lines = [f"{name} {statistics.median(values):.1f} % of {len(values)}" for name, values in sorted(groups.items())]
    return tpot, ttft, lines


def shipped(runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Our absolute errors of TPOT and TTFT as shipped, per cent."""
    found = [run.residuals(None) for run in runs]
    return [abs(math.expm1(a)) * 100 for a, _ in found], [abs(math.expm1(b)) * 100 for _, b in found if b is not None]


def time_per_prediction(runs: Sequence[Run]) -> float:
    """Median seconds of a whole prediction of ours: memory ledger, step times, load line, latencies."""
    times = []
    for run in runs:
        began = time.perf_counter()
        predict(run.facts, run.gpu, run.config, run.workload)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _figures(name: str, tpot: Sequence[float], ttft: Sequence[float], detail: str) -> list[Figure]:
    return [
        Figure(f"{what}, {name}, median error", statistics.median(values), "%", None, "<=", f"{len(values)} runs{said}")
        for what, values, said in (("TPOT", tpot, f"; {detail}"), ("TTFT", ttft, ""))
        if values
    ]


def run(context: Context) -> list[Figure]:
    """Median errors of both on the same runs, and the time of a prediction."""
    if context.data is None:
        context.skipped.append("side by side with aiconfigurator: give --data")
        return []
    runs = recommender_latency.measured_runs(context.data, context.skipped)
    if context.quick:
        runs = runs[:: max(1, len(runs) // QUICK_ROWS)]
    try:
        found = estimates(runs, context.skipped)
    except NotInstalledError as error:
        context.skipped.append(f"side by side with aiconfigurator: {error}")
        return []
    both = [(run, answer) for run, answer in zip(runs, found, strict=True) if answer is not None]
    if not both:
        return []
    runs, known = [run for run, _ in both], [answer for _, answer in both]
    database = ", ".join(sorted({answer.database for answer in known}))
    tpot, ttft, lines = errors(runs, known)
    said = f"its kernels were measured with vLLM {database} on these GPUs; {', '.join(lines)}"
    figures = _figures("aiconfigurator 0.12", tpot, ttft, said)
    tpot, ttft = shipped(runs)
    if context.quick:
        context.skipped.append("held-out fits: left out of the quick version")
    else:
        tpots, ttfts, lines = recommender_latency.held_out(runs, lambda item: item.facts.architecture)
        figures += _figures("Plimsoll, model left out of the fit", tpots, ttfts, ", ".join(lines))
    figures += _figures("Plimsoll as shipped", tpot, ttft, "fitted on these runs among others")
    times = [answer.seconds for answer in known]
    detail = f"median of {len(times)}; all {sum(times):.0f} s, the first of a model reads its tables"
    return [
        *figures,
        Figure("time per prediction, aiconfigurator 0.12", statistics.median(times), "s", None, "<=", detail),
        Figure("time per prediction, Plimsoll", time_per_prediction(runs), "s", None, "<=", f"median of {len(runs)}"),
    ]
