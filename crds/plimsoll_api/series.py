"""Names of the engine's series that the detector, dashboards, alert rules, the simulated engine and tests share.

As vLLM 0.32 exposes them on `/metrics`: counters with `_total`, histograms by their base name (`bucket`, `total` and
`count` give the series of one). Every series carries the labels `model_name` and `engine` besides those of the scrape.
"""

from __future__ import annotations

from typing import Final

# Gauges.
RUNNING: Final = "vllm:num_requests_running"
"""Requests in the batch."""
WAITING: Final = "vllm:num_requests_waiting"
"""Requests queued, for whatever reason."""
WAITING_BY_REASON: Final = "vllm:num_requests_waiting_by_reason"
"""The same by label `reason`: `capacity` waits for room, `deferred` for something else (an adapter, a KV transfer)."""
KV_CACHE_USAGE: Final = "vllm:kv_cache_usage_perc"
"""Share of KV blocks in use, 0 to 1 despite its name."""
CACHE_CONFIG_INFO: Final = "vllm:cache_config_info"
"""1, with the cache configuration as labels."""

# Counters.
PREEMPTIONS: Final = "vllm:num_preemptions_total"
PROMPT_TOKENS: Final = "vllm:prompt_tokens_total"
GENERATION_TOKENS: Final = "vllm:generation_tokens_total"
REQUEST_SUCCESS: Final = "vllm:request_success_total"
"""Requests finished, well or not: label `finished_reason` says how."""
PREFIX_CACHE_QUERIES: Final = "vllm:prefix_cache_queries_total"
"""In tokens."""
PREFIX_CACHE_HITS: Final = "vllm:prefix_cache_hits_total"
"""In tokens."""

# Histograms, in seconds.
TIME_TO_FIRST_TOKEN: Final = "vllm:time_to_first_token_seconds"  # noqa: S105 (a series)
"""Observed when the first token appears, not when the request ends: its count is the rate at which requests begin."""
INTER_TOKEN_LATENCY: Final = "vllm:inter_token_latency_seconds"  # noqa: S105 (a series)
"""One observation per token step."""
TIME_PER_OUTPUT_TOKEN: Final = "vllm:request_time_per_output_token_seconds"  # noqa: S105 (a series)
"""One observation per finished request: its mean time per token after the first."""
E2E_LATENCY: Final = "vllm:e2e_request_latency_seconds"
QUEUE_TIME: Final = "vllm:request_queue_time_seconds"
PREFILL_TIME: Final = "vllm:request_prefill_time_seconds"
DECODE_TIME: Final = "vllm:request_decode_time_seconds"

# Histograms, in tokens.
REQUEST_PROMPT_TOKENS: Final = "vllm:request_prompt_tokens"
REQUEST_GENERATION_TOKENS: Final = "vllm:request_generation_tokens"
ITERATION_TOKENS: Final = "vllm:iteration_tokens_total"
"""A histogram despite its suffix; its count is the number of engine steps."""

# Labels of the engine's own.
LABEL_ENGINE: Final = "engine"
LABEL_MODEL: Final = "model_name"
LABEL_FINISHED_REASON: Final = "finished_reason"
LABEL_REASON: Final = "reason"
LABEL_BUCKET: Final = "le"

REASON_CAPACITY: Final = "capacity"
REASON_DEFERRED: Final = "deferred"

FINISHED_ERROR: Final = "error"
FINISHED_ABORT: Final = "abort"
FINISHED_REASONS: Final = ("stop", "length", "abort", "error", "repetition")


def bucket(histogram: str) -> str:
    """The cumulative buckets of a histogram."""
    return f"{histogram}_bucket"


def total(histogram: str) -> str:
    """The sum of a histogram's observations."""
    return f"{histogram}_sum"


def count(histogram: str) -> str:
    """The number of a histogram's observations."""
    return f"{histogram}_count"
