"""A histogram of durations with a fixed relative precision, cheap enough for every token of every stream."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

FLOOR_SECONDS: Final = 1e-5
"""Everything shorter shares the first bucket: events that arrived in one read are 0 apart."""
GROWTH: Final = 1.02
"""Upper over lower edge of a bucket: a reported value is within 1 % of the true one (HdrHistogram at 2 digits)."""
_CEILING_SECONDS: Final = 1e4
_PER_NATURAL_LOG: Final = 1 / math.log(GROWTH)
_BUCKETS: Final = int(math.log(_CEILING_SECONDS / FLOOR_SECONDS) * _PER_NATURAL_LOG) + 2


class Histogram:
    """Counts of durations (s) in buckets whose edges grow by `GROWTH` from `FLOOR_SECONDS`."""

    __slots__ = ("_counts", "count", "maximum", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def record(self, seconds: float, count: int = 1) -> None:
        """Add a duration `count` times; a negative one counts as 0."""
        if seconds > FLOOR_SECONDS:
            bucket = min(int(math.log(seconds / FLOOR_SECONDS) * _PER_NATURAL_LOG) + 1, _BUCKETS - 1)
            self._counts[bucket] += count
            self.total += seconds * count
            if seconds > self.maximum:
                self.maximum = seconds
        else:
            self._counts[0] += count
        self.count += count

    @property
    def mean(self) -> float | None:
        """Mean duration in seconds, exact but for the first bucket (taken as 0); None when empty."""
        return self.total / self.count if self.count else None

    def percentile(self, percent: float) -> float | None:
        """The duration (s) that `percent` % of the recorded ones do not exceed; None when empty."""
        if not self.count:
            return None
        rank = max(1, math.ceil(self.count * percent / 100))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_middle(bucket), self.maximum)
        raise AssertionError("the counts of a histogram sum to its count")

    def occupied(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(bucket middles in seconds, counts) of the buckets that hold anything, for plots."""
        used = [(_middle(bucket), count) for bucket, count in enumerate(self._counts) if count]
        middles, counts = zip(*used, strict=True) if used else ((), ())
        return np.asarray(middles, dtype=np.float64), np.asarray(counts, dtype=np.int64)


def _middle(bucket: int) -> float:
    """Geometric middle of a bucket in seconds; 0 for the first."""
    return 0.0 if bucket == 0 else FLOOR_SECONDS * math.exp((bucket - 0.5) / _PER_NATURAL_LOG)
