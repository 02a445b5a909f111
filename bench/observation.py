"""How much one observation improves the next prediction: KV cache of a second start, latency of other loads."""

from __future__ import annotations

import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.figures import Context, Figure
from bench.memory_parts.start_ups import engine_config
from plimsoll_recommender import (
    Accelerator,
    Corrections,
    EngineConfig,
    ModelFacts,
    Observation,
    RecommenderError,
    Workload,
    accelerator,
    corrected_ledger,
    corrected_predict,
    observe,
)
from plimsoll_recommender.observation.comparison import compared
from plimsoll_recommender.observation.corrections import Comparison

H100: Final = "H100"

CHECKPOINTS: Final = {
    ("MiniMaxAI/MiniMax-M2.5", "fp8"): "MiniMaxAI/MiniMax-M2.5",
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
    ("meta-llama/Llama-3.1-70B", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("Qwen/Qwen3-32B", ""): "Qwen/Qwen3-32B",
    ("openai/gpt-oss-120b", "fp4"): "openai/gpt-oss-120b",
}
"""Checkpoint of a (model, precision) of measured_ttft_tpot.csv."""

SYSTEMS: Final = {"h100_sxm": "H100", "b200_sxm": "B200"}

PERIOD: Final = 15.0
"""Seconds of a request log that are one observation: a scrape interval."""

STEADY: Final = 1.5
"""Requests started over ended, either way, up to which a period is steady."""


@dataclass(frozen=True)
class Start:
    """One published start-up of vLLM: what it was told, and its log."""

    facts: ModelFacts
    config: EngineConfig
    log: str
    kv: float


def starts(data: Path) -> list[Start]:
    """Published start-ups with the lines that their logs had."""
    with (data / "kv_startup" / "vllm_startup_memory_h100.csv").open(encoding="utf-8") as stream:
        return [_start(row) for row in csv.DictReader(stream)]


def _start(row: dict[str, str]) -> Start:
    config = engine_config(row)
    total, share = float(row["gpu_total_gib"]), float(row["gpu_memory_utilization"])
    log = "\n".join(
        (
            f"INFO [core.py:105] Initializing a V1 LLM engine (v{row['vllm_version']}) with config: "
            f"model='{row['model']}', max_seq_len={row['max_model_len']}, tensor_parallel_size={row['tp']}, "
            f"pipeline_parallel_size={row['pp']}, kv_cache_dtype={row['kv_cache_dtype']}, device_config=cuda",
            f"INFO [gpu_model_runner.py] Model loading took {row['weights_gib_per_gpu']} GiB memory and 9 seconds",
            f"INFO [gpu_worker.py:436] Available KV cache memory: {row['available_kv_gib']} GiB",
            f"INFO [kv_cache_utils.py:1319] GPU KV cache size: {int(row['kv_cache_tokens']):,} tokens",
            f"INFO [gpu_worker.py:600] Free memory on device (78.68/{total} GiB) on startup. Desired GPU memory "
            f"utilization is ({share}, {total * share:.2f} GiB). Actual usage is {row['weights_gib_per_gpu']} GiB for "
            f"weight, {row['activation_peak_gib']} GiB for peak activation, {row['non_torch_gib']} GiB for non-torch "
            f"memory, and {row['cudagraph_actual_gib'] or 0} GiB for CUDAGraph memory.",
        )
    )
    return Start(ModelFacts.load(row["model"]), config, log, float(row["available_kv_gib"]))


def memory_figures(rows: Sequence[Start]) -> list[Figure]:
    """KV GiB of every later start of a model and release, from config alone, before and after seeing the first."""
    gpu = accelerator(H100)
    before: list[float] = []
    after: list[float] = []
    other: list[float] = []
    for group in _grouped(rows, lambda row: (row.facts.name, row.config.engine_version)):
        first = next((row for row in group if row.config.pipeline_parallel_size == 1), group[0])
        known = Corrections().with_observation(observe(first.log, facts=first.facts, gpu=gpu, config=first.config))
        for row in group:
            if row is first:
                continue
            plain = corrected_ledger(row.facts, gpu, row.config)
            corrected = corrected_ledger(row.facts, gpu, row.config, known)
            before.append(_error(plain.kv_cache_gib, row.kv))
            after.append(_error(corrected.kv_cache_gib, row.kv))
            if row.config.tensor_parallel_size != first.config.tensor_parallel_size:
                other.append(_error(corrected.kv_cache_gib, row.kv))
    detail = f"{len(after)} later starts of a model and release, {len(other)} at another TP; from config alone"
    what = "KV GiB of a later start"
    return [
        Figure(f"{what}, median error: before", statistics.median(before), "%", None, "<=", detail),
        Figure(f"{what}, median error: after", statistics.median(after), "%", 0.5, "<=", detail),
        Figure(f"{what}, worst error: before", max(before), "%"),
        Figure(f"{what}, worst error: after", max(after), "%", 3.0, "<="),
    ]


@dataclass(frozen=True)
class Run:
    """One measured run at fixed concurrency."""

    facts: ModelFacts
    gpu: Accelerator
    config: EngineConfig
    workload: Workload
    ttft: float
    tpot: float

    @property
    def engine(self) -> Hashable:
        """What one observation is to correct: model, precision, GPU, release and parallelism."""
        return (self.facts.name, self.gpu.product, self.config.engine_version, self.config.tensor_parallel_size,
                self.config.expert_parallel)  # fmt: skip


def runs(data: Path) -> list[Run]:
    """Runs of vLLM without data-parallel attention, of checkpoints that are known and fit."""
    with (data / "perf" / "measured_ttft_tpot.csv").open(encoding="utf-8") as stream:
        found = [_run(row) for row in csv.DictReader(stream) if row["backend"] == "vllm"]
    return [run for run in found if run is not None]


def _run(row: dict[str, str]) -> Run | None:
    name = CHECKPOINTS.get((row["model_path"], row["precision"]))
    if name is None or (row["attention_dp_size"] or "1") != "1" or row["moe_ep_size"] == "0":
        return None
    lengths = int(row["isl"]), int(row["osl"])
    config = EngineConfig(
        tensor_parallel_size=int(row["tp_size"]),
        expert_parallel=int(row["moe_ep_size"] or 1) > 1,
        engine_version=row["backend_version"] if row["backend_version"].startswith("0.") else "0.11.0",
        max_model_len=sum(lengths) + 64,
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        gpu_memory_utilization=0.95 if row["system"] == "b200_sxm" else 0.92,
    )
    return Run(
        ModelFacts.load(name),
        accelerator(SYSTEMS[row["system"]]),
        config,
        Workload(*lengths, concurrency=int(row["batch_size"])),
        float(row["silicon_ttft_ms"]) / 1000,
        float(row["silicon_tpot_ms"]) / 1000,
    )


@dataclass
class Errors:
    """Absolute errors of TPOT and TTFT, per cent, and whether TPOT was inside its 90 % interval."""

    tpot: list[float]
    ttft: list[float]
    inside: list[bool]

    def add(self, run: Run, known: Corrections | None) -> None:
        """One run's errors; no TTFT where requests wait for a slot."""
        found = corrected_predict(run.facts, run.gpu, run.config, run.workload, corrections=known)
        self.tpot.append(_error(found.tpot.mean, run.tpot))
        self.inside.append(found.tpot.low <= run.tpot <= found.tpot.high)
        if not found.saturated:
            self.ttft.append(_error(found.ttft.mean, run.ttft))


def seen_in(run: Run) -> Observation:
    """A run as an observation: benchmarks send about ten requests per slot."""
    return observe(
        {"ttft": run.ttft, "tpot": run.tpot, "requests": 10 * (run.workload.concurrency or 1)},
        facts=run.facts,
        gpu=run.gpu,
        config=run.config,
        workload=run.workload,
    )


def latency_errors(found: Sequence[Run], observed: int) -> tuple[Errors, Errors, int]:
    """(errors before, errors after, engines) at the loads of each engine that were not observed.

    Args:
        found: measured runs.
        observed: loads of each engine that are observed, evenly spread from the second least to the second greatest.
    """
    before, after = Errors([], [], []), Errors([], [], [])
    engines = 0
    for group in _grouped(found, lambda run: run.engine):
        ordered = sorted(group, key=lambda run: (run.workload.concurrency or 0, run.workload.input_tokens))
        if len(ordered) < 2 * observed + 1:
            continue
        picked = {round((place + 1) * (len(ordered) - 1) / (observed + 1)) for place in range(observed)}
        known = Corrections()
        try:
            for place in sorted(picked):
                known = known.with_observation(seen_in(ordered[place]))
        except RecommenderError:
            continue
        engines += 1
        for place, run in enumerate(ordered):
            if place not in picked:
                before.add(run, None)
                after.add(run, known)
    return before, after, engines


def latency_figures(found: Sequence[Run]) -> list[Figure]:
    """TPOT and TTFT of an engine's other loads before and after observing one load, and four."""
    figures = []
    for observed in (1, 4):
        before, after, engines = latency_errors(found, observed)
        for name, without, corrected in (("TPOT", before.tpot, after.tpot), ("TTFT", before.ttft, after.ttft)):
            detail = f"{len(corrected)} other loads of {engines} engines (model, GPU, release, parallelism)"
            text = f"{name}, median error, {observed} load{'s' if observed > 1 else ''} observed"
            figures += [
                Figure(f"{text}: before", statistics.median(without), "%", None, "<=", detail),
                Figure(f"{text}: after", statistics.median(corrected), "%", statistics.median(without), "<=", detail),
            ]
        inside = [statistics.fmean(item.inside) * 100 for item in (before, after)]
        figures.append(
            Figure(f"TPOT inside its 90 % interval, {observed} observed", inside[1], "%", None, ">=",
                   f"{inside[0]:.0f} % before"),
        )  # fmt: skip
    return figures


@dataclass(frozen=True)
class Served:
    """One request of a log.

    Args:
        input_tokens, output_tokens: its lengths.
        first, last: seconds of its first and last token on the engine's clock.
    """

    input_tokens: int
    output_tokens: int
    first: float
    last: float

    @property
    def tpot(self) -> float:
        """Seconds per output token after the first."""
        return (self.last - self.first) / (self.output_tokens - 1)


LOGS: Final = {
    "RTX4090_Llama-3.1-8B": ("RTX 4090", EngineConfig(max_num_seqs=256, max_num_batched_tokens=2048,
                             max_model_len=32_768, gpu_memory_utilization=0.9, engine_version="0.19.0")),
    "RTXPRO6000_Qwen3-32B": ("RTX PRO 6000", EngineConfig(tensor_parallel_size=2, max_num_seqs=128,
                             max_num_batched_tokens=2048, gpu_memory_utilization=0.9, engine_version="0.19.0")),
}  # fmt: skip
"""GPU and engine settings of the request logs (their meta.json)."""


def served(folder: Path) -> list[Served]:
    """Requests of a log by arrival, those with one output token left out."""
    with (folder / "requests.jsonl").open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    rows = [row for row in rows if row["output_toks"] > 1]
    return [Served(row["input_toks"], row["output_toks"], row["first_token_ts"], row["last_token_ts"]) for row in rows]


def steady_periods(requests: Sequence[Served]) -> list[dict[str, float]]:
    """What was scraped of every period in which about as many requests started as ended."""
    begin, last = min(item.first for item in requests), max(item.last for item in requests)
    count = int((last - begin) // PERIOD)
    periods = [scraped(requests, begin + PERIOD * place, begin + PERIOD * (place + 1)) for place in range(count)]
    return [item for item in periods if item["requests"] and 1 / STEADY <= item["started"] / item["requests"] <= STEADY]


def scraped(requests: Sequence[Served], begin: float, end: float) -> dict[str, float]:
    """What an engine's metrics say of a period: time between tokens, requests in the batch, started and finished."""
    beside = [max(0.0, min(end, item.last) - max(begin, item.first)) for item in requests]
    tokens = sum(seconds / item.tpot for seconds, item in zip(beside, requests, strict=True))
    return {
        "tpot": sum(beside) / tokens,
        "running": sum(beside) / (end - begin),
        "started": sum(begin <= item.first < end for item in requests),
        "requests": sum(begin <= item.last < end for item in requests),
        "input_tokens": statistics.fmean(item.input_tokens for item in requests if item.first < end),
        "output_tokens": statistics.fmean(item.output_tokens for item in requests if item.first < end),
    }


def log_figures(folder: Path, name: str) -> list[Figure]:
    """TPOT of each period of a log, predicted with and without what the periods before it taught."""
    gpu_name, config = LOGS[name]
    gpu, requests = accelerator(gpu_name), served(folder / name)
    facts = ModelFacts.load(json.loads((folder / name / "meta.json").read_text(encoding="utf-8"))["model"])
    known = Corrections()
    rows: list[Comparison] = []
    for metrics in steady_periods(requests):
        seen = observe(metrics, facts=facts, gpu=gpu, config=config)
        rows += compared(seen, known)
        known = known.with_observation(seen)
    rows = rows[1:]
    detail = f"{len(rows)} periods of {PERIOD:.0f} s, each predicted from those before it"
    return [
        Figure(f"TPOT, {name}, median error: before", statistics.median(abs(row.error_before) for row in rows), "%",
               None, "<=", detail),
        Figure(f"TPOT, {name}, median error: after", statistics.median(abs(row.error_after) for row in rows), "%",
               None, "<=", detail),
    ]  # fmt: skip


def _grouped(rows: Iterable[Any], key: Any) -> list[list[Any]]:
    groups: dict[Hashable, list[Any]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return list(groups.values())


def _error(predicted: float, measured: float) -> float:
    return abs(predicted / measured - 1) * 100


def run(context: Context) -> list[Figure]:
    """Memory of later starts, latency of other loads, and two request logs."""
    if context.data is None:
        context.skipped.append("corrections against published starts and runs: give --data")
        return []
    context.skipped.append("TTFT of the request logs: their requests wait for a slot, which corrects nothing")
    logs = context.data / "perf" / "vllm_request_logs"
    return [
        *memory_figures(starts(context.data)),
        *latency_figures(runs(context.data)),
        *(figure for name in LOGS for figure in log_figures(logs, name)),
    ]
