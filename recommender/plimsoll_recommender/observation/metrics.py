"""vLLM's metrics, as Prometheus text or a mapping, read into what an engine holds and how it ran."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from plimsoll_api import series
from plimsoll_recommender.observation.observed import Operation, StartUp

_SAMPLE: Final = re.compile(r"^\s*([A-Za-z_:][\w:]*)\s*(\{.*\})?\s+([-+]?[\w.+-]+)(?:\s+-?\d+)?\s*$")
_LABEL: Final = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')

TTFT: Final = (series.TIME_TO_FIRST_TOKEN,)
TPOT: Final = (
    series.INTER_TOKEN_LATENCY,
    "vllm:time_per_output_token_seconds",
    series.TIME_PER_OUTPUT_TOKEN,
)
"""Per token first: the per-request mean counts requests of one token as zero. The second was removed in 0.13."""

RUNNING: Final = (series.RUNNING,)
WAITING: Final = (series.WAITING,)
INPUT: Final = (series.REQUEST_PROMPT_TOKENS,)
OUTPUT: Final = (series.REQUEST_GENERATION_TOKENS,)
CACHE_INFO: Final = series.CACHE_CONFIG_INFO

FRIENDLY: Final = {
    "ttft": "ttft",
    "tpot": "tpot",
    "requests": "requests",
    "started": "started",
    "input_tokens": "input_tokens",
    "input_tokens_mean": "input_tokens",
    "output_tokens": "output_tokens",
    "output_tokens_mean": "output_tokens",
    "running": "running",
    "waiting": "waiting",
    "requests_per_second": "requests_per_second",
    "prefix_hit_ratio": "prefix_hit_ratio",
    "percentile": "percentile",
}
"""Plain names of a mapping (those of an LLMService's `status.observed` among them) and the field each fills."""

FRIENDLY_MEMORY: Final = (
    "weights_gib",
    "activation_peak_gib",
    "non_torch_gib",
    "cuda_graphs_gib",
    "gpu_total_gib",
    "gpu_memory_utilization",
    "kv_cache_gib",
    "max_concurrency",
)
FRIENDLY_COUNTS: Final = ("kv_cache_tokens", "kv_cache_blocks", "block_size")


@dataclass(frozen=True)
class Sample:
    """One sample of an exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str) -> Iterator[Sample]:
    """The samples of Prometheus text.

    Lines that are not samples are skipped, not refused: a scrape may be cut, and one bad line must not cost the rest
    (which is why prometheus_client's parser, that stops at the first, is not used).
    """
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        match = _SAMPLE.match(line)
        if match is None:
            continue
        name, labels, text_value = match.groups()
        try:
            value = float(text_value)
        except ValueError:
            continue
        if math.isfinite(value):
            yield Sample(name, dict(_LABEL.findall(labels or "")), value)


def samples_of(metrics: Mapping[str, object]) -> Iterator[Sample]:
    """The samples of a mapping whose names are vLLM's."""
    for name, value in metrics.items():
        if not name.startswith("vllm:"):
            continue
        bare, _, labels = name.partition("{")
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield Sample(bare, dict(_LABEL.findall(labels)), float(value))
        elif isinstance(value, Mapping):
            yield Sample(bare, {str(key): str(item) for key, item in value.items()}, 1.0)


@dataclass(frozen=True)
class Exposition:
    """Samples summed over engines of one process, and the labels of its cache information."""

    totals: Mapping[str, float]
    cache: Mapping[str, str]
    model: str | None

    @classmethod
    def of(cls, found: Iterator[Sample]) -> Exposition:
        """Samples without histogram buckets, summed over labels."""
        totals: dict[str, float] = {}
        cache: dict[str, str] = {}
        model = None
        for sample in found:
            if sample.name == CACHE_INFO:
                cache = dict(sample.labels)
                continue
            if sample.name.endswith(("_bucket", "_created")):
                continue
            model = model or sample.labels.get("model_name")
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return cls(totals, cache, model)

    def since(self, earlier: Exposition | None) -> Exposition:
        """What was counted after an earlier scrape of the same process; gauges stay.

        A counter that went back was reset by a restart: it counts from zero.
        """
        if earlier is None:
            return self
        totals = dict(self.totals)
        for name, value in self.totals.items():
            before = earlier.totals.get(name, 0.0)
            if name.endswith(("_sum", "_count", "_total")) and value >= before:
                totals[name] = value - before
        return Exposition(totals, self.cache, self.model)

    def mean(self, names: tuple[str, ...]) -> tuple[float | None, float]:
        """(mean, count) of the first histogram among `names` that has observations."""
        for name in names:
            count = self.totals.get(f"{name}_count", 0.0)
            if count > 0:
                return self.totals.get(f"{name}_sum", 0.0) / count, count
        return None, 0.0

    def gauge(self, names: tuple[str, ...]) -> float | None:
        """The first of the gauges that is there."""
        return next((self.totals[name] for name in names if name in self.totals), None)


def capacity_of(seen: Exposition) -> StartUp:
    """What `cache_config_info` says of the KV cache; labels are text, `None` included."""

    def number(label: str) -> float | None:
        try:
            value = float(seen.cache.get(label, ""))
        except ValueError:
            return None
        return value if math.isfinite(value) and value > 0 else None

    def count(label: str) -> int | None:
        value = number(label)
        return None if value is None else int(value)

    stated = number("kv_cache_memory_bytes") is not None or number("num_gpu_blocks_override") is not None
    return StartUp(
        model=seen.model,
        gpu_memory_utilization=number("gpu_memory_utilization"),
        kv_cache_tokens=count("kv_cache_size_tokens"),
        kv_cache_blocks=count("num_gpu_blocks"),
        block_size=count("block_size"),
        max_concurrency=number("kv_cache_max_concurrency"),
        kv_cache_stated=stated,
    )


def operation_of(seen: Exposition) -> Operation:
    """How the engine ran, from histograms' sums and counts, counters and gauges."""
    ttft, first_tokens = seen.mean(TTFT)
    tpot, _ = seen.mean(TPOT)
    prompt, _ = seen.mean(INPUT)
    output, finished = seen.mean(OUTPUT)
    requests = finished or first_tokens
    if prompt is None and first_tokens and series.PROMPT_TOKENS in seen.totals:
        prompt = seen.totals[series.PROMPT_TOKENS] / first_tokens
    if output is None and first_tokens and series.GENERATION_TOKENS in seen.totals:
        output = seen.totals[series.GENERATION_TOKENS] / first_tokens
    asked = seen.totals.get(series.PREFIX_CACHE_QUERIES, 0.0)
    hits = seen.totals.get(series.PREFIX_CACHE_HITS, 0.0) / asked if asked > 0 else None
    return Operation(
        ttft=ttft,
        tpot=tpot,
        requests=requests or None,
        started=first_tokens or None,
        input_tokens=prompt or None,
        output_tokens=output or None,
        running=seen.gauge(RUNNING),
        waiting=seen.gauge(WAITING),
        prefix_hit_ratio=None if hits is None else min(max(hits, 0.0), 0.999),
    )


def named(metrics: Mapping[str, object]) -> tuple[StartUp, Operation]:
    """What a mapping with plain names holds; values that are not finite numbers above zero are ignored."""
    numbers = {name: number for name, value in metrics.items() if (number := _number(value)) is not None}
    counts = {name: int(numbers[name]) for name in FRIENDLY_COUNTS if name in numbers}
    sizes = {name: numbers[name] for name in FRIENDLY_MEMORY if name in numbers}
    ran = {target: numbers[name] for name, target in FRIENDLY.items() if name in numbers}
    return StartUp(**sizes, **counts), Operation(**ran)  # type: ignore[arg-type]


def _number(value: object) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None or isinstance(value, bool | str | Mapping):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # Decimal and NumPy numbers are numbers too
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
