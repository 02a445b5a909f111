"""Request rate over time: constant, steps, flash crowd, daily, and any other piecewise-linear rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_KNOTS_PER_PERIOD: Final = 240
"""Straight pieces of one daily cosine: its rate is then off by at most (pi/240)^2/2 = 0.009 % of its amplitude."""


@dataclass(frozen=True)
class RateProfile:
    """A rate that is linear between knots; two knots at one time are a jump.

    Args:
        seconds: times of the knots, the first 0, never decreasing.
        rates: requests per second at each knot, 0 or more.

    Raises:
        ValueError: the knots do not describe a rate over a positive time, or the rate is 0 throughout.
    """

    seconds: tuple[float, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the knots."""
        if len(self.seconds) != len(self.rates) or len(self.seconds) < 2:
            raise ValueError(f"a rate needs as many times as rates and at least 2, not {len(self.seconds)}")
        times = np.asarray(self.seconds)
        if not np.isfinite([*self.seconds, *self.rates]).all() or times[0] != 0 or (np.diff(times) < 0).any():
            raise ValueError("the times of a rate must be finite, begin at 0 and not decrease")
        if times[-1] <= 0:
            raise ValueError("a rate needs a duration above 0 s")
        if min(self.rates) < 0 or self.expected_requests <= 0:
            raise ValueError("rates must be 0 or more, and above 0 somewhere")

    @property
    def duration(self) -> float:
        """Seconds the profile covers."""
        return self.seconds[-1]

    @cached_property
    def _cumulative(self) -> Floats:
        """Expected requests up to each knot (the trapezoid rule is exact for linear pieces)."""
        times, rates = np.asarray(self.seconds), np.asarray(self.rates)
        areas = np.diff(times) * (rates[1:] + rates[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(areas)])

    @property
    def expected_requests(self) -> float:
        """Expected number of requests over the whole profile."""
        return float(self._cumulative[-1])

    @property
    def mean_rate(self) -> float:
        """Requests per second over the whole profile."""
        return self.expected_requests / self.duration

    def rate_at(self, seconds: float) -> float:
        """Requests per second at one time (after the jump, where there is one); 0 outside the profile."""
        if not 0 <= seconds <= self.duration:
            return 0.0
        last_piece = len(self.seconds) - 2
        index = min(int(np.searchsorted(self.seconds, seconds, side="right")) - 1, last_piece)
        width = self.seconds[index + 1] - self.seconds[index]
        if width == 0:
            return self.rates[index + 1]
        share = (seconds - self.seconds[index]) / width
        return self.rates[index] + share * (self.rates[index + 1] - self.rates[index])

    def when(self, expected: Floats) -> Floats:
        """The times at which the expected number of requests reaches each value (inverse of the cumulative rate).

        Args:
            expected: numbers of requests in [0, expected_requests), any shape.
        """
        times, rates, cumulative = np.asarray(self.seconds), np.asarray(self.rates), self._cumulative
        # The last knot at or below the value: pieces without requests are stepped over.
        index = np.clip(np.searchsorted(cumulative, expected, side="right") - 1, 0, len(times) - 2)
        widths = np.diff(times)[index]
        rise = np.diff(rates)[index]
        # With u the share of the piece, rate*u + rise*u^2/2 = area; solved in the form that does not cancel for
        # small rises.
        area = np.divide(expected - cumulative[index], widths, out=np.zeros_like(expected), where=widths > 0)
        denominator = rates[index] + np.sqrt(np.maximum(rates[index] ** 2 + 2 * rise * area, 0.0))
        share = np.divide(2 * area, denominator, out=np.zeros_like(area), where=denominator > 0)
        found: Floats = times[index] + np.minimum(share, 1.0) * widths
        return found

    def with_mean_rate(self, rate: float) -> RateProfile:
        """The same shape at another mean rate."""
        factor = rate / self.mean_rate
        return RateProfile(self.seconds, tuple(r * factor for r in self.rates))

    def stretched_to(self, duration: float) -> RateProfile:
        """The same shape and mean rate over another time."""
        factor = duration / self.duration
        return RateProfile(tuple(s * factor for s in self.seconds), self.rates)


def constant(rate: float, duration: float) -> RateProfile:
    """One rate (requests/s) for `duration` seconds."""
    return RateProfile((0.0, duration), (rate, rate))


def steps(levels: Sequence[tuple[float, float]]) -> RateProfile:
    """Rates held one after another.

    Args:
        levels: (requests per second, seconds) of each step.
    """
    seconds: list[float] = []
    rates: list[float] = []
    at = 0.0
    for rate, duration in levels:
        if not duration > 0:
            raise ValueError(f"step {rate:g}:{duration:g}: a step must last more than 0 s")
        seconds += [at, at + duration]
        rates += [rate, rate]
        at += duration
    return RateProfile(tuple(seconds), tuple(rates))


def flash_crowd(base: float, factor: float, *, start: float, ramp: float, hold: float, duration: float) -> RateProfile:
    """A base rate that rises to `factor` times itself, stays there, and falls back.

    Args:
        base: requests per second before and after.
        factor: peak over base, 1 or more.
        start: seconds until the rise begins.
        ramp: seconds the rise takes, and the fall; 0 is a jump.
        hold: seconds at the peak.
        duration: seconds in all; the crowd must fit.

    Raises:
        ValueError: the crowd does not fit, or a number is out of its range.
    """
    needed = start + 2 * ramp + hold
    if min(start, ramp, hold) < 0 or needed > duration:
        raise ValueError(
            f"flash crowd: start {start:g} + 2 x ramp {ramp:g} + hold {hold:g} = {needed:g} s "
            f"must fit in the duration, {duration:g} s"
        )
    if factor < 1:
        raise ValueError(f"flash crowd: factor {factor:g} must be 1 or more")
    peak = base * factor
    times = (0.0, start, start + ramp, start + ramp + hold, needed, duration)
    return RateProfile(times, (base, base, peak, peak, base, base))


def daily(low: float, high: float, *, period: float, duration: float) -> RateProfile:
    """A rate that swings between `low` and `high` as a cosine, beginning at `low`.

    Args:
        low: least requests per second.
        high: most requests per second.
        period: seconds of one day.
        duration: seconds in all.
    """
    if not 0 <= low <= high or not period > 0:
        raise ValueError(f"daily: 0 <= low <= high and period > 0 must hold, not {low:g}, {high:g}, {period:g} s")
    pieces = max(2, int(np.ceil(duration / period * _KNOTS_PER_PERIOD)))
    times = np.linspace(0.0, duration, pieces + 1)
    rates = (low + high) / 2 - (high - low) / 2 * np.cos(2 * np.pi * times / period)
    return RateProfile(tuple(times.tolist()), tuple(np.maximum(rates, 0.0).tolist()))
