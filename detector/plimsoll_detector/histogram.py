"""Percentiles and shares from the cumulative buckets of a Prometheus histogram. Pure.

Both interpolate linearly inside a bucket, as `histogram_quantile` does (Prometheus documentation, "Query functions"),
so that figures here and on a dashboard agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Buckets:
    """Cumulative buckets in ascending order.

    Attributes:
        edges: upper bounds; the last one is infinite.
        counts: observations (or a rate of them) at or below each edge.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        """All observations."""
        return self.counts[-1]


def buckets(pairs: Iterable[tuple[float, float]]) -> Buckets | None:
    """Buckets from pairs of edge and cumulative count, in any order; counts of the same edge add up.

    Returns:
        None when there is no infinite edge, a count is not a number, or nothing was observed.
    """
    summed: dict[float, float] = {}
    for edge, count in pairs:
        summed[edge] = summed.get(edge, 0.0) + count
    edges = tuple(sorted(summed))
    if not edges or not math.isinf(edges[-1]) or not all(math.isfinite(count) for count in summed.values()):
        return None
    counts: list[float] = []
    for edge in edges:  # rates of buckets are rounded each on its own and may step back by a little
        counts.append(max(summed[edge], counts[-1] if counts else 0.0))
    return Buckets(edges, tuple(counts)) if counts[-1] > 0 else None


def quantile(histogram: Buckets, share: float) -> float:
    """The value below which `share` (0 to 1) of the observations lie.

    A quantile beyond the last finite edge is that edge: the histogram does not know more.
    """
    rank = share * histogram.total
    lower_edge, lower_count = 0.0, 0.0
    for edge, count in zip(histogram.edges, histogram.counts, strict=True):
        if count >= rank:
            if math.isinf(edge):
                return lower_edge
            inside = count - lower_count
            return lower_edge + (edge - lower_edge) * ((rank - lower_count) / inside if inside > 0 else 1.0)
        lower_edge, lower_count = edge, count
    return lower_edge


def share_below(histogram: Buckets, value: float) -> float:
    """The share (0 to 1) of observations at or below a value.

    Within the last, infinite bucket nothing is counted as below: that errs against meeting an objective.
    """
    lower_edge, lower_count = 0.0, 0.0
    for edge, count in zip(histogram.edges, histogram.counts, strict=True):
        if value < edge:
            if math.isinf(edge):
                return lower_count / histogram.total
            inside = (value - lower_edge) / (edge - lower_edge)
            return (lower_count + (count - lower_count) * max(inside, 0.0)) / histogram.total
        lower_edge, lower_count = edge, count
    return 1.0
