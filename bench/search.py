"""How long one full recommendation takes, over the whole catalogue of accelerators and every division over GPUs."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
import time
from typing import Final

from bench.figures import Context, Figure
from plimsoll_recommender import InfeasibleError, Limits, ModelFacts, Objectives, Recommendation, Workload, recommend
from plimsoll_recommender.catalogue.accelerators import catalogue
from plimsoll_recommender.search.ask import asked
from plimsoll_recommender.search.candidates import fitted, preference, token_budgets, with_budget
from plimsoll_recommender.search.explore import best_budget, explore, places

MODELS: Final = (
    "Qwen/Qwen2.5-0.5B",
    "meta-llama/Llama-3.1-8B-Instruct",
    "microsoft/phi-4",
    "google/gemma-3-27b-it",
    "Qwen/Qwen3-30B-A3B",
    "meta-llama/Llama-3.1-70B-Instruct",
    "openai/gpt-oss-120b",
    "Qwen/Qwen3-235B-A22B-FP8",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "deepseek-ai/DeepSeek-V3",
)
"""Dense and mixture, every kind of KV cache, half a GiB of weights to six hundred."""

WORKLOADS: Final = (
    ("chat 1/s", Workload(1200, 250, requests_per_second=1.0)),
    ("chat 100/s", Workload(1200, 250, requests_per_second=100.0)),
    ("long prompts 5/s", Workload(8000, 300, requests_per_second=5.0)),
    ("long answers 20/s", Workload(500, 1500, requests_per_second=20.0)),
    ("200 in flight", Workload(1024, 1024, concurrency=200.0)),
)

OBJECTIVES: Final = Objectives(ttft=2.0, tpot=0.1)

BAR_SECONDS: Final = 0.3
IMPORT_SECONDS: Final = 0.5
"""What the project holds itself to: one recommendation with explanation on one core, and the import."""

CHECKED: Final = 8
"""Cases whose answer is compared with sizing every place (each takes seconds)."""


def run(context: Context) -> list[Figure]:
    """Times of recommendations, the import, and whether pruning loses anything."""
    cases = list(itertools.product(MODELS, WORKLOADS))
    if context.quick:
        cases = cases[:: len(cases) // 5]
    seconds, answered, slowest = _times(cases)
    ordered = sorted(seconds)
    p99 = ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]
    where = f"{len(cases)} cases, {len(catalogue())} accelerators, {answered} answered; one core's CPU time"
    longer, _, slowest_mix = _times(cases, Limits(mix_accelerators=True))
    return [
        Figure(
            "recommendation of a mixed fleet, median",
            statistics.median(longer),
            "s",
            BAR_SECONDS,
            detail=f"the same cases and accelerators; slowest: {slowest_mix}",
        ),
        Figure("recommendation of a mixed fleet, slowest", max(longer), "s", BAR_SECONDS),
        Figure("recommendation, median", statistics.median(seconds), "s", BAR_SECONDS, detail=where),
        Figure("recommendation, p99", p99, "s", BAR_SECONDS, detail=f"slowest: {slowest}"),
        Figure(
            "import of the package", _import_seconds(), "s", IMPORT_SECONDS, detail="a fresh interpreter, best of 3"
        ),
        _against_everything(cases, quick=context.quick),
    ]


def _times(cases: list[tuple[str, tuple[str, Workload]]], limits: Limits | None = None) -> tuple[list[float], int, str]:
    """(CPU seconds per case, how many have an answer, the slowest case)."""
    facts = {name: ModelFacts.load(name) for name in MODELS}
    _answer(facts[MODELS[0]], WORKLOADS[0][1], limits)
    seconds, answered = [], 0
    for name, (_, workload) in cases:
        began = time.process_time()
        found = _answer(facts[name], workload, limits)
        seconds.append(time.process_time() - began)
        answered += found is not None
    name, (label, _) = cases[seconds.index(max(seconds))]
    return seconds, answered, f"{name}, {label}, {max(seconds):.3f} s"


def _answer(facts: ModelFacts, workload: Workload, limits: Limits | None) -> Recommendation | None:
    try:
        return recommend(facts, catalogue(), workload, OBJECTIVES, limits)
    except InfeasibleError:
        return None


def _import_seconds() -> float:
    """Wall seconds of importing the package beyond starting the interpreter."""
    code = "import time; t = time.perf_counter(); import plimsoll_recommender; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    return min(float(run.stdout) for run in runs)


def _against_everything(cases: list[tuple[str, tuple[str, Workload]]], *, quick: bool) -> Figure:
    """Cases in which a search without any bound finds a fleet that is cheaper, or as cheap with fewer GPUs."""
    chosen = cases[3 :: max(1, len(cases) // (2 if quick else CHECKED))]
    worse, products = 0, catalogue()[::4]
    for name, (_, workload) in chosen:
        ask = asked(ModelFacts.load(name), products, workload, OBJECTIVES, Limits(), None)
        best, every = explore(ask).best, []
        for place in places(ask)[0]:
            candidate = fitted(ask, place)
            if not candidate.refused:
                tried = [c for tokens in token_budgets(ask) if (c := with_budget(ask, candidate, tokens)).sized]
                every += [preference(best_budget(tried))[:3]] if tried else []
        worse += bool(every) and (best is None or preference(best)[:3] > min(every))
    detail = f"{len(chosen)} cases, {len(products)} accelerators, every place sized"
    return Figure("answers that pruning made worse", worse, "cases", 0, "==", detail=detail)
