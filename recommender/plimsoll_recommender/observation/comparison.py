"""What was predicted held against what was measured, before and after corrections."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.observation.apply import corrected_ledger, corrected_predict
from plimsoll_recommender.observation.corrections import Comparison, Corrections
from plimsoll_recommender.observation.observed import Observation
from plimsoll_recommender.prediction import Latency

KV_GIB: Final = "KV cache, GiB"
KV_TOKENS: Final = "KV cache, tokens"
TTFT: Final = "TTFT, s"
TPOT: Final = "TPOT, s"


def compared(observation: Observation, corrections: Corrections) -> tuple[Comparison, ...]:
    """A row per measured KV cache, TTFT and TPOT; none for what cannot be predicted."""
    return (*_memory(observation, corrections), *_latency(observation, corrections))


def _memory(observation: Observation, corrections: Corrections) -> list[Comparison]:
    seen, config = observation.start_up, observation.config
    if seen.kv_cache_stated or (seen.kv_cache_gib is None and seen.kv_cache_tokens is None):
        return []
    plain = corrected_ledger(observation.facts, observation.gpu, config)
    corrected = corrected_ledger(observation.facts, observation.gpu, config, corrections)
    rows = (
        (KV_GIB, seen.kv_cache_gib, plain.kv_cache_gib, corrected.kv_cache_gib),
        (KV_TOKENS, seen.kv_cache_tokens, float(plain.kv_cache_tokens), float(corrected.kv_cache_tokens)),
    )
    return [Comparison(observation.key, what, *values) for what, *values in _known(rows)]


def _latency(observation: Observation, corrections: Corrections) -> list[Comparison]:
    seen = observation.operation
    if observation.workload is None or (seen.ttft is None and seen.tpot is None):
        return []
    try:
        plain, corrected = (
            corrected_predict(
                observation.facts,
                observation.gpu,
                observation.config,
                observation.workload,
                corrections=known,
            )
            for known in (None, corrections)
        )
    except RecommenderError:
        return []
    at = seen.percentile
    rows = [(TPOT, seen.tpot, latency_at(plain.tpot, at), latency_at(corrected.tpot, at))]
    if not plain.saturated:
        rows.append((TTFT, seen.ttft, latency_at(plain.ttft, at), latency_at(corrected.ttft, at)))
    return [Comparison(observation.key, what, *values) for what, *values in _known(rows)]


def latency_at(latency: Latency, percentile: float | None) -> float:
    """The mean of a latency, or its value at a percentile, in seconds."""
    return latency.mean if percentile is None else latency.at(percentile)


def _known(rows: Iterable[tuple[str, float | None, float, float]]) -> list[tuple[str, float, float, float]]:
    """The rows that were measured and can be compared."""
    return [
        (what, measured, predicted, corrected)
        for what, measured, predicted, corrected in rows
        if measured is not None and measured > 0 and 0 < predicted < math.inf and 0 < corrected < math.inf
    ]
