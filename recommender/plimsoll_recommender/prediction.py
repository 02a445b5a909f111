"""What a prediction holds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

KNOWN_PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0)
"""Percentiles a `Latency` carries; others are interpolated between them."""


@dataclass(frozen=True)
class Latency:
    """The distribution of a latency over requests, in seconds.

    Args:
        mean: mean over requests.
        p50, p90, p95, p99: percentiles over requests.
        low, high: 90 % interval of the mean: how wrong the model itself may be.
    """

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    low: float
    high: float

    def at(self, percentile: float) -> float:
        """The latency at a percentile from 50 to 99, in seconds; linear between the known ones."""
        known = tuple(zip(KNOWN_PERCENTILES, (self.p50, self.p90, self.p95, self.p99), strict=True))
        if percentile <= known[0][0]:
            return known[0][1]
        for (before, low), (after, high) in itertools.pairwise(known):
            if percentile <= after:
                if low == high:
                    return low
                return low + (high - low) * (percentile - before) / (after - before)
        return known[-1][1]


@dataclass(frozen=True)
class Throughput:
    """What one replica completes.

    Args:
        requests_per_second: requests.
        output_tokens_per_second: generated tokens.
        total_tokens_per_second: prompt and generated tokens.
    """

    requests_per_second: float
    output_tokens_per_second: float
    total_tokens_per_second: float


@dataclass(frozen=True)
class Prediction:
    """Latency and throughput of one replica under a workload.

    Args:
        ttft: time to first token.
        tpot: time per output token after the first.
        e2e: time for the whole response.
        throughput: what is completed.
        load_line_rps: most requests/s at which the objectives hold; without objectives, the rate at which the replica
            saturates.
        running: mean sequences in the batch.
        waiting: mean requests queued.
        kv_cache_usage: mean share of the KV cache in use (0 to 1).
        utilization: offered load over the most that can be carried (1 is saturated).
        bound: what limits the replica: `memory bandwidth`, `compute`, `host`, `KV cache`, `max_num_seqs` or `arrivals`.
        saturated: the workload is more than the replica can carry; latencies then hold for as long as the queue is
            bounded by `concurrency`, and are infinite in an open loop.
    """

    ttft: Latency
    tpot: Latency
    e2e: Latency
    throughput: Throughput
    load_line_rps: float
    running: float
    waiting: float
    kv_cache_usage: float
    utilization: float
    bound: str
    saturated: bool
