"""Predicted TPOT and TTFT against measured ones of vLLM, with models and GPUs left out of the calibration."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.figures import Context, Figure
from plimsoll_recommender import Accelerator, EngineConfig, ModelFacts, RecommenderError, Workload, accelerator
from plimsoll_recommender.latency.efficiency import BLACKWELL, HOPPER, Efficiency, efficiency_of
from plimsoll_recommender.latency.predict import closed_loop
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.memory.ledger import MemoryLedger

SYSTEMS: Final = {"h100_sxm": "H100", "b200_sxm": "B200"}
"""Systems of the data set that vLLM was measured on."""

CHECKPOINTS: Final = {
    ("MiniMaxAI/MiniMax-M2.5", "fp8"): "MiniMaxAI/MiniMax-M2.5",
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
    ("meta-llama/Llama-3.1-70B", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("Qwen/Qwen3-32B", ""): "Qwen/Qwen3-32B",
    ("openai/gpt-oss-120b", "fp4"): "openai/gpt-oss-120b",
}
"""Checkpoint of a (model, precision) of the data set."""

BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "weight_bandwidth": (0.3, 0.92),
    "kv_bandwidth": (0.2, 0.92),
    "matmul": (0.2, 0.85),
    "matmul_quantized": (0.1, 0.85),
    "expert_bandwidth": (0.2, 0.92),
    "expert_matmul": (0.05, 0.85),
    "attention": (0.1, 0.85),
    "layer_latency": (1e-6, 1e-4),
    "expert_latency": (1e-6, 1e-4),
    "routing": (0.5, 1.0),
    "step_latency": (1e-4, 2e-2),
    "sequence_latency": (1e-7, 1e-4),
    "token_traffic": (1.0, 200.0),
    "collective_latency": (1e-6, 6e-5),
    "link": (0.05, 0.85),
}
"""What a fitted share may be: physics allows no more, nothing sane less."""

TTFT_WEIGHT: Final = 0.4
"""Weight of a TTFT residual against a TPOT residual: TTFT includes the client's way of starting requests."""

PRIOR_WEIGHT: Final = 0.3
"""Weight of staying near the starting values, for shares that the rows say nothing of."""


@dataclass(frozen=True)
class Run:
    """One measured run and what is needed to predict it."""

    model: str
    system: str
    gpu: Accelerator
    facts: ModelFacts
    config: EngineConfig
    workload: Workload
    ledger: MemoryLedger
    ttft: float
    tpot: float

    def residuals(self, efficiency: Efficiency | None) -> tuple[float, float | None]:
        """ln(predicted / measured) of TPOT and TTFT; no TTFT where requests wait for a slot."""
        replica = Replica.of(
            self.facts, self.gpu, self.config, self.workload, ledger=self.ledger, efficiency=efficiency
        )
        assert self.workload.concurrency is not None
        found = closed_loop(replica, self.workload.concurrency, 0.0)
        ttft = None if found.saturated else math.log(found.ttft.mean / self.ttft)
        return math.log(found.tpot.mean / self.tpot), ttft


def measured_runs(data: Path, skipped: list[str]) -> list[Run]:
    """Runs of vLLM on one model replica (without data-parallel attention) whose checkpoint is known."""
    runs, unused = [], 0
    with (data / "perf" / "measured_ttft_tpot.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["backend"] != "vllm":
                continue
            run = _run_of(row)
            if run is None:
                unused += 1
            else:
                runs.append(run)
    skipped.append(f"{unused} vLLM rows with data-parallel attention, unknown checkpoint, or that we say do not fit")
    return runs


def _run_of(row: dict[str, str]) -> Run | None:
    name = CHECKPOINTS.get((row["model_path"], row["precision"]))
    if name is None or (row["attention_dp_size"] or "1") != "1" or row["moe_ep_size"] == "0":
        return None
    lengths = int(row["isl"]), int(row["osl"])
    gpu, facts = accelerator(SYSTEMS[row["system"]]), ModelFacts.load(name)
    config = EngineConfig(
        tensor_parallel_size=int(row["tp_size"]),
        expert_parallel=int(row["moe_ep_size"] or 1) > 1,
        engine_version=row["backend_version"] if row["backend_version"].startswith("0.") else "0.11.0",
        max_model_len=sum(lengths) + 64,
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        gpu_memory_utilization=0.95 if row["system"] == "b200_sxm" else 0.92,
    )
    workload = Workload(*lengths, concurrency=int(row["batch_size"]))
    try:
        replica = Replica.of(facts, gpu, config, workload)
    except RecommenderError:
        return None
    ttft, tpot = float(row["silicon_ttft_ms"]) / 1000, float(row["silicon_tpot_ms"]) / 1000
    return Run(name, row["system"], gpu, facts, replica.config, workload, replica.ledger, ttft, tpot)


def fitted(runs: Sequence[Run], start: Efficiency) -> Efficiency:
    """Shares that minimise the robust squared logarithms of predicted over measured TPOT and TTFT, within bounds."""
    from scipy.optimize import least_squares

    names = list(BOUNDS)
    low, high = (np.log([bounds[side] for bounds in BOUNDS.values()]) for side in (0, 1))
    begin = np.clip(np.log([getattr(start, name) for name in names]), low + 1e-6, high - 1e-6)

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        values = {name: float(value) for name, value in zip(names, np.exp(logarithms), strict=True)}
        efficiency = replace(start, **values)  # type: ignore[arg-type]
        out = list(PRIOR_WEIGHT * (logarithms - begin))
        for run in runs:
            tpot, ttft = run.residuals(efficiency)
            out += [tpot, TTFT_WEIGHT * (ttft or 0.0)]
        return np.array(out)

    answer = least_squares(residuals, begin, bounds=(low, high), loss="soft_l1", f_scale=0.1, max_nfev=8)
    found = {name: float(value) for name, value in zip(names, np.exp(answer.x), strict=True)}
    return replace(start, **found)  # type: ignore[arg-type]


def median_errors(runs: Sequence[Run], efficiency: Efficiency | None) -> tuple[float, float]:
    """Median absolute error of TPOT and of TTFT, per cent."""
    found = [run.residuals(efficiency) for run in runs]
    tpot = [abs(math.expm1(residual)) * 100 for residual, _ in found]
    ttft = [abs(math.expm1(residual)) * 100 for _, residual in found if residual is not None]
    return statistics.median(tpot), statistics.median(ttft)


def held_out(
    runs: Sequence[Run], group: Callable[[Run], str], *, same_gpu: bool, thin: int
) -> tuple[list[float], list[float], list[str]]:
    """Absolute errors (TPOT, TTFT, per cent) of every group predicted by a fit on the others, and a line per group."""
    tpot: list[float] = []
    ttft: list[float] = []
    lines = []
    for name in sorted({group(run) for run in runs}):
        for system in sorted({run.system for run in runs if group(run) == name}):
            tested = [run for run in runs if group(run) == name and run.system == system]
            known = [run for run in runs if group(run) != name and (run.system == system or not same_gpu)]
            if not known:
                continue
            # A fit starts from the other GPU's shares when the GPU is left out, so that it has not set them.
            other = BLACKWELL if system == "h100_sxm" else HOPPER
            efficiency = fitted(known[::thin], efficiency_of(tested[0].gpu.architecture) if same_gpu else other)
            found = [run.residuals(efficiency) for run in tested]
            tpot += [abs(math.expm1(a)) * 100 for a, _ in found]
            ttft += [abs(math.expm1(b)) * 100 for _, b in found if b is not None]
            lines.append(f"{name} on {system} {median_errors(tested, efficiency)[0]:.0f} %")
    return tpot, ttft, lines


def run(context: Context) -> list[Figure]:
    """In-sample errors, then errors with each model and each GPU left out of the fit."""
    if context.data is None:
        context.skipped.append("latency against measured runs: give --data")
        return []
    runs = measured_runs(context.data, context.skipped)
    tpot, ttft = median_errors(runs, None)
    figures = [
        Figure("TPOT, calibration rows, median error", tpot, "%", None, "<=", f"{len(runs)} runs, as shipped"),
        Figure("TTFT, calibration rows, median error", ttft, "%", None, "<=", "fixed lengths, closed loop"),
    ]
    if context.quick:
        context.skipped.append("held-out fits: left out of the quick version")
        return figures
    tpots, ttfts, lines = held_out(runs, lambda item: item.facts.architecture, same_gpu=True, thin=2)
    figures += [
        Figure(
            "TPOT, model left out, median error", statistics.median(tpots), "%", 8, "<=", "TPOT: " + ", ".join(lines)
        ),
        Figure("TTFT, model left out, median error", statistics.median(ttfts), "%", 20, "<=", f"{len(ttfts)} runs"),
    ]
    tpots, ttfts, lines = held_out(runs, lambda item: item.system, same_gpu=False, thin=3)
    figures += [
        Figure(
            "TPOT, GPU left out, median error", statistics.median(tpots), "%", 12, "<=", "TPOT: " + ", ".join(lines)
        ),
        Figure("TTFT, GPU left out, median error", statistics.median(ttfts), "%", 30, "<=", f"{len(ttfts)} runs"),
    ]
    return figures
