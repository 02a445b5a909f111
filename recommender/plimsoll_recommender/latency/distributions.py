"""Percentiles of positive quantities from their mean and spread."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from plimsoll_recommender.prediction import Latency

_NORMAL: Final = NormalDist()
_Z95: Final = _NORMAL.inv_cdf(0.95)
_Z: Final = {percentile: _NORMAL.inv_cdf(percentile / 100) for percentile in (50, 90, 95, 99)}


def variation_of(mean: float, p95: float) -> float:
    """Coefficient of variation of a log-normal quantity from its mean and 95th percentile.

    ln(p95 / mean) = z s - s^2 / 2 is solved for the smaller s; a ratio beyond the largest possible one
    (exp(z^2 / 2) = 3.87) gives that one's.
    """
    ratio = math.log(max(p95 / mean, 1.0))
    sigma = _Z95 - math.sqrt(max(_Z95**2 - 2 * ratio, 0.0))
    return math.sqrt(math.expm1(sigma**2))


def quantile(mean: float, variation: float, percentile: float) -> float:
    """A percentile of a log-normal quantity from its mean and coefficient of variation."""
    if variation <= 0 or mean <= 0 or not math.isfinite(mean):
        return mean
    sigma = math.sqrt(math.log1p(variation**2))
    return mean * math.exp(_NORMAL.inv_cdf(percentile / 100) * sigma - sigma**2 / 2)


def latency(mean: float, variation: float, error: float) -> Latency:
    """A latency's distribution.

    Args:
        mean: seconds.
        variation: coefficient of variation over requests.
        error: relative error of the model within which the true mean lies nine times of ten.
    """
    sigma = math.sqrt(math.log1p(variation**2)) if variation > 0 and math.isfinite(mean) else 0.0
    p50, p90, p95, p99 = (mean * math.exp(z * sigma - sigma**2 / 2) for z in _Z.values())
    return Latency(mean, p50, p90, p95, p99, low=mean / (1 + error), high=mean * (1 + error))
