"""Arrival times: a stationary renewal process at unit rate, rescaled to a rate over time."""

from __future__ import annotations

from typing import Final

import numpy as np

from plimsoll_simulator.traffic.profiles import Floats, RateProfile

_CHUNK_SLACK: Final = 4.0
"""Standard deviations of the count drawn in one go, so that a second chunk is rarely needed."""
MIN_CV: Final = 1e-3
"""Below it arrivals are evenly spaced: the difference is a thousandth of a gap."""
MAX_CV: Final = 100.0
"""Beyond it nearly all gaps are 0 in double precision; the burstiest published trace has 13."""


def arrival_times(profile: RateProfile, cv: float, rng: np.random.Generator) -> Floats:
    """Times (s) of the arrivals, sorted, within the profile's duration.

    Gaps between arrivals are gamma-distributed in operational time, where the expected rate is 1, and mapped back
    through the inverse of the cumulative rate (time rescaling: D. J. Daley and D. Vere-Jones, An Introduction to the
    Theory of Point Processes, 2nd ed., theorem 7.4.I). With `cv` 1 this is exactly the Poisson process of that rate.
    The process is stationary: the first gap is a uniform share of a length-biased gap, so that the expected
    number of arrivals is the profile's for every `cv`.

    Args:
        profile: the rate over time.
        cv: coefficient of variation of the gaps: 0 evenly spaced, 1 Poisson, more is burstier.
        rng: source of randomness.

    Raises:
        ValueError: the coefficient of variation is negative or above `MAX_CV`.
    """
    if not 0 <= cv <= MAX_CV:
        raise ValueError(f"burstiness {cv:g}: the coefficient of variation must be from 0 to {MAX_CV:g}")
    total = profile.expected_requests
    gaps = [_first_gap(cv, rng)]
    reached = float(gaps[0][0])
    while reached < total:
        left = total - reached
        chunk = _gaps(cv, int(left + _CHUNK_SLACK * max(cv, 1.0) * np.sqrt(left)) + 1, rng)
        gaps.append(chunk)
        reached += float(chunk.sum())
    operational = np.cumsum(np.concatenate(gaps))
    # Rounding may put neighbours out of order by the last bit.
    times: Floats = np.maximum.accumulate(profile.when(operational[operational < total]))
    return times


def _gaps(cv: float, count: int, rng: np.random.Generator) -> Floats:
    """`count` gamma gaps of mean 1."""
    return np.ones(count) if cv < MIN_CV else rng.gamma(1 / cv**2, cv**2, count)


def _first_gap(cv: float, rng: np.random.Generator) -> Floats:
    """Time from any moment to the next arrival; a length-biased gamma gap is a gamma gap with its shape one higher."""
    whole = 1.0 if cv < MIN_CV else float(rng.gamma(1 / cv**2 + 1, cv**2))
    return np.array([whole * rng.random()])
