"""Real request logs of vLLM 0.19 replayed: TTFT and TPOT of every request, predicted and measured.

Two settings. Zero-shot: the log's arrivals and lengths through the shipped model of that GPU and model; the engine's
settings and the machine's memory bandwidth are the log's, none of its times is used. After correction: the gauges of
the first fifth of the log's time set two factors on step times, and the requests whose first token came later are
predicted.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.figures import Context, Figure
from plimsoll_recommender import EngineConfig, ModelFacts, accelerator
from plimsoll_recommender.latency.step_time import StepTimeModel
from plimsoll_recommender.step_load import StepLoad
from plimsoll_simulator.replay import (
    ModelledReplica,
    ReplayResult,
    StepTimes,
    TracedRequest,
    modelled_replica,
    replay,
    traced,
)
from plimsoll_simulator.traffic import Lognormal, TrafficModel, constant

GPUS: Final = {"RTX4090": "RTX 4090", "RTXPRO6000": "RTX PRO 6000"}
"""Our name of the GPU that a log's folder begins with."""

TPOT_BAR: Final = 5.0
TTFT_BAR: Final = 15.0
"""Median absolute errors over requests that are asked for, per cent."""

SPEED_BAR: Final = 1e5
"""Engine steps replayed per second that are asked for."""

SPEED_RATE: Final = 4.0
"""Requests per second of the chat traffic that the bar is held against."""

OBSERVED_SHARE: Final = 0.2
"""Share of the log's time that corrects the model."""

WINDOW_SECONDS: Final = 2.0
"""Seconds of a row when correcting: tens of steps, and several prompts, which count when their first token comes."""


@dataclass(frozen=True)
class Log:
    """One log. Times are seconds since the first arrival; the engine's clock and the client's are aligned so that no
    request is queued before it arrived."""

    name: str
    replica: ModelledReplica
    trace: tuple[TracedRequest, ...]
    first_token: tuple[float, ...]
    last_token: tuple[float, ...]
    gauges: tuple[dict[str, float], ...]

    @property
    def ttft(self) -> list[float]:
        """Measured seconds from arrival to the first token."""
        return [first - request.at for first, request in zip(self.first_token, self.trace, strict=True)]

    @property
    def tpot(self) -> list[float]:
        """Measured seconds per token after the first."""
        return [
            (last - first) / (request.output_tokens - 1)
            for first, last, request in zip(self.first_token, self.last_token, self.trace, strict=True)
        ]

    @property
    def observed(self) -> float:
        """Until when the log corrects the model."""
        return OBSERVED_SHARE * max(self.last_token)


def read_log(folder: Path) -> Log:
    """A log's requests, gauges and replica, the replica being sized by what its meta.json says it was started with."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    with (folder / "requests.jsonl").open(encoding="utf-8") as stream:
        rows = sorted((json.loads(line) for line in stream), key=lambda row: row["arrival_time"])
    clock = min(row["queued_ts"] - row["arrival_time"] for row in rows)
    began = rows[0]["arrival_time"] + clock
    with (folder / "timeseries.csv").open(encoding="utf-8") as stream:
        gauges = tuple({name: float(value) for name, value in row.items()} for row in csv.DictReader(stream))
    return Log(
        name=folder.name,
        replica=_replica(folder, meta),
        trace=tuple(
            TracedRequest(row["arrival_time"] + clock - began, row["input_toks"], row["output_toks"]) for row in rows
        ),
        first_token=tuple(row["first_token_ts"] - began for row in rows),
        last_token=tuple(row["last_token_ts"] - began for row in rows),
        gauges=gauges,
    )


def _replica(folder: Path, meta: dict[str, Any]) -> ModelledReplica:
    asked = meta["engine_kwargs"]
    cache = meta.get("kv_cache", {})
    config = EngineConfig(
        tensor_parallel_size=asked["tensor_parallel_size"],
        max_num_seqs=asked["max_num_seqs"],
        max_num_batched_tokens=asked["max_num_batched_tokens"],
        max_model_len=asked["max_model_len"],
        dtype=asked["dtype"],
        kv_cache_dtype=asked["kv_cache_dtype"],
        gpu_memory_utilization=cache.get("gpu_memory_utilization"),
        engine_version=meta["vllm_version"],
    )
    return modelled_replica(
        ModelFacts.load(asked["model"]),
        accelerator(GPUS[folder.name.partition("_")[0]]),
        config,
        prefix_caching=cache.get("enable_prefix_caching", True),
        kv_blocks=cache.get("num_gpu_blocks"),
    )


@dataclass(frozen=True)
class Corrected:
    """Step times with a factor on the step without its prompts and one on what the prompts add."""

    model: StepTimeModel
    decode: float
    prefill: float

    def seconds(self, load: StepLoad) -> float:
        """Seconds of one step with this load."""
        whole = self.model.seconds(load)
        if not load.prefill_tokens:
            return self.decode * whole
        rest = self.model.seconds(StepLoad(0, 0, load.decode_sequences, load.kv_tokens, load.sampled_sequences))
        return self.decode * rest + self.prefill * (whole - rest)


def corrected(log: Log, shipped: ReplayResult) -> Corrected:
    """Factors from the gauges of the first `log.observed` seconds, as a scrape of the engine shows them.

    A busy engine's seconds are spent on steps (tokens generated over sequences running) and on prompts (their tokens):
    seconds = decode x steps x our step time + prefill x tokens x our time per prompt token, a robust fit of the
    logarithms over windows of `WINDOW_SECONDS`. Prompts computed again after preemption are not counted in any metric
    and stay in the residuals.

    Args:
        log: the log.
        shipped: its replay without correction, for the KV cache in use where the log does not say.
    """
    from scipy.optimize import least_squares

    rows = np.array(_windows(log, shipped))

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        decode, prefill = np.exp(logarithms)
        return np.log((decode * rows[:, 1] + prefill * rows[:, 2]) / rows[:, 0])  # type: ignore[no-any-return]

    found = least_squares(residuals, np.zeros(2), loss="soft_l1", f_scale=0.05)
    return Corrected(log.replica.step_times, *np.exp(found.x).tolist())


def _windows(log: Log, shipped: ReplayResult) -> list[tuple[float, float, float]]:
    """(seconds, our seconds of their decoding, our seconds of their prompts) of each window that is observed."""
    model, limits = log.replica.step_times, log.replica.limits
    reach = statistics.fmean(request.prompt_tokens for request in log.trace if request.at <= log.observed) / 2
    sums: dict[int, tuple[float, float, float]] = {}
    before = 0.0
    for row, sample in zip(log.gauges, shipped.samples, strict=False):
        if row["t"] > log.observed:
            break
        running, before = 0.5 * (before + row["running"]), row["running"]
        # One log's KV gauge was never filled in.
        usage = row["kv_cache_pct"] / 100 or sample.kv_usage
        context = usage * limits.kv_blocks * limits.block_size / running
        step = model.mixed_seconds(0.0, 0.0, running, context)
        chunk = limits.max_num_batched_tokens - running
        per_token = (model.mixed_seconds(chunk, reach, running, context) - step) / chunk
        window = math.ceil(row["t"] / WINDOW_SECONDS)
        seconds, decode, prefill = sums.get(window, (0.0, 0.0, 0.0))
        steps = row["gen_throughput"] / running
        sums[window] = (seconds + 1.0, decode + steps * step, prefill + row["prompt_throughput"] * per_token)
    return list(sums.values())


def errors(log: Log, result: ReplayResult, since: float = 0.0) -> tuple[list[float], list[float]]:
    """Relative errors of TPOT and TTFT, per cent, of the requests whose first token came at or after `since`."""
    rows = [
        ((outcome.tpot / tpot - 1) * 100, (outcome.ttft / ttft - 1) * 100)
        for outcome, tpot, ttft, first in zip(result.outcomes, log.tpot, log.ttft, log.first_token, strict=True)
        if first >= since
    ]
    return [tpot for tpot, _ in rows], [ttft for _, ttft in rows]


def _two(name: str, values: tuple[list[float], list[float]], detail: str) -> list[Figure]:
    figures = []
    for what, found, bar in (("TPOT", values[0], TPOT_BAR), ("TTFT", values[1], TTFT_BAR)):
        away = [abs(error) for error in found]
        p90 = statistics.quantiles(away, n=10)[-1]
        figures.append(
            Figure(
                f"{what}, {name}, median error",
                statistics.median(away),
                "%",
                bar,
                "<=",
                f"{len(found)} requests, signed median {statistics.median(found):+.1f} %, p90 {p90:.1f} %; {detail}",
            )
        )
    return figures


def _gauges(log: Log, result: ReplayResult) -> str:
    """Mean absolute differences of the gauges over the log's seconds."""
    pairs = list(zip(result.samples, log.gauges, strict=False))
    running = statistics.fmean(abs(sample.running - row["running"]) for sample, row in pairs)
    waiting = statistics.fmean(abs(sample.waiting - row["waiting"]) for sample, row in pairs)
    # One log's KV gauge was never filled in.
    filled = any(row["kv_cache_pct"] for row in log.gauges)
    cache = statistics.fmean(abs(100 * sample.kv_usage - row["kv_cache_pct"]) for sample, row in pairs)
    usage = f"KV {cache:.1f} points" if filled else "KV not in the log"
    return f"gauges off by running {running:.1f}, waiting {waiting:.1f}, {usage}"


def _write_series(log: Log, result: ReplayResult, file: Path) -> None:
    """The gauges beside the log's, for a picture."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("t", "running", "running_log", "waiting", "waiting_log", "kv_pct", "kv_pct_log"))
        for sample, row in zip(result.samples, log.gauges, strict=False):
            usage = round(100 * sample.kv_usage, 2)
            writer.writerow(
                (row["t"], sample.running, row["running"], sample.waiting, row["waiting"], usage, row["kv_cache_pct"])
            )


def _replayed(log: Log, times: StepTimes) -> ReplayResult:
    return replay(log.trace, log.replica.limits, times, sample_interval=1.0)


def _figures_of(log: Log, output: Path) -> list[Figure]:
    shipped = _replayed(log, log.replica.step_times)
    detail = f"shipped step times, {_gauges(log, shipped)}, {shipped.preemptions} preemptions"
    figures = _two(f"{log.name}, zero-shot", errors(log, shipped), detail)
    factors = corrected(log, shipped)
    after = _replayed(log, factors)
    _write_series(log, after, output / f"request_logs_{log.name}.csv")
    detail = (
        f"first {log.observed:.0f} s gave factors decode {factors.decode:.3f} and prefill {factors.prefill:.3f}, "
        f"requests after them; {_gauges(log, after)}, {after.preemptions} preemptions"
    )
    return figures + _two(f"{log.name}, after correction", errors(log, after, log.observed), detail)


def _speed(name: str, trace: Sequence[TracedRequest], replica: ModelledReplica, bar: float | None) -> Figure:
    """Replay speed by CPU time on one core, without sampling, the best of three."""
    best = math.inf
    for _ in range(3):
        began = time.process_time()
        result = replay(trace, replica.limits, replica.step_times)
        best = min(best, time.process_time() - began)
    detail = (
        f"{result.steps} steps, {len(trace)} requests, {result.ended / best:.0f} times as fast as the replica, "
        f"on average {_mean_running(result):.0f} running"
    )
    return Figure(f"replay speed, {name}", result.steps / best, "steps/s", bar, ">=", detail)


def _mean_running(result: ReplayResult) -> float:
    """Mean number of sequences running, by the time each of them ran."""
    return sum(outcome.last_token - outcome.scheduled for outcome in result.outcomes) / result.ended


def _chat() -> tuple[tuple[TracedRequest, ...], ModelledReplica]:
    """A replica of Llama-3.1-8B on an H100 with chat traffic well below what it carries."""
    replica = modelled_replica(
        ModelFacts.load("meta-llama/Llama-3.1-8B"), accelerator("H100"), EngineConfig(max_model_len=8192)
    )
    model = TrafficModel(constant(SPEED_RATE, 600.0), 1.0, Lognormal(1000, 2500, 4096), Lognormal(250, 625, 2048))
    return traced(model.requests(seed=7)), replica


def run(context: Context) -> list[Figure]:
    """Errors per log in both settings, and the speed of the replay."""
    folder = context.data / "perf" / "vllm_request_logs" if context.data else None
    if folder is None or not folder.is_dir():
        context.skipped.append("request logs: give --data with perf/vllm_request_logs")
        return []
    figures: list[Figure] = []
    for path in sorted(item for item in folder.iterdir() if item.is_dir()):
        if path.name.partition("_")[0] not in GPUS:
            context.skipped.append(f"{path.name}: its GPU is not known to this benchmark")
            continue
        log = read_log(path)
        figures += _figures_of(log, context.output)
        figures.append(_speed(log.name, log.trace, log.replica, None))
    figures.append(_speed(f"chat at {SPEED_RATE:g} requests/s", *_chat(), SPEED_BAR))
    return figures
