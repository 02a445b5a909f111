"""How many tokens a request has: fixed, lognormal from mean and p95, or a table of quantiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

Z95: Final = NormalDist().inv_cdf(0.95)
MAX_P95_OVER_MEAN: Final = math.exp(Z95**2 / 2)
"""3.87: no lognormal has a larger p95 for its mean."""


class LengthDistribution(Protocol):
    """A distribution of token counts, each at least 1."""

    @property
    def mean(self) -> float:
        """Expected tokens, before rounding to whole tokens of at least 1."""
        ...

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` independent lengths."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Every request has the same number of tokens."""

    tokens: int

    def __post_init__(self) -> None:
        """Check the length."""
        if self.tokens < 1:
            raise ValueError(f"a length must be 1 token or more, not {self.tokens}")

    @property
    def mean(self) -> float:
        """The length."""
        return float(self.tokens)

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` times the length; draws nothing."""
        return np.full(count, self.tokens, dtype=np.int64)


@dataclass(frozen=True)
class Lognormal:
    """The lognormal with a given mean and 95th percentile, cut off at `maximum`.

    With z the normal 95 % point, mean = exp(mu + sigma^2/2) and p95 = exp(mu + z sigma), hence
    sigma = z - sqrt(z^2 - 2 ln(p95/mean)): the smaller root, whose mode stays near the mean.

    Args:
        mean: tokens, 1 or more.
        p95: tokens, from the mean to `MAX_P95_OVER_MEAN` times the mean.
        maximum: longest length drawn (a model's context), or None.

    Raises:
        ValueError: no lognormal has these figures.
    """

    mean: float
    p95: float
    maximum: int | None = None

    def __post_init__(self) -> None:
        """Check that the figures describe a lognormal."""
        if self.mean < 1:
            raise ValueError(f"mean {self.mean:g}: lengths must be 1 token or more")
        if not self.mean <= self.p95 <= self.mean * MAX_P95_OVER_MEAN:
            raise ValueError(
                f"p95 {self.p95:g} tokens: for a mean of {self.mean:g} it must be from {self.mean:g} "
                f"to {self.mean * MAX_P95_OVER_MEAN:.0f}"
            )

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return Z95 - math.sqrt(max(Z95**2 - 2 * math.log(self.p95 / self.mean), 0.0))

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` lengths, rounded to whole tokens from 1 to the maximum."""
        mu = math.log(self.mean) - self.sigma**2 / 2
        drawn = np.rint(rng.lognormal(mu, self.sigma, count)).astype(np.int64)
        return np.clip(drawn, 1, self.maximum)


@dataclass(frozen=True)
class Quantiles:
    """A measured distribution given by some of its quantiles, linear in between.

    Args:
        levels: probabilities, the first 0 and the last 1, increasing.
        tokens: the length at each level, 1 or more, not decreasing.

    Raises:
        ValueError: the levels or lengths are not as said.
    """

    levels: tuple[float, ...]
    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the table."""
        if len(self.levels) != len(self.tokens) or self.levels[0] != 0 or self.levels[-1] != 1:
            raise ValueError("a quantile table needs a length for every level, from level 0 to level 1")
        if (np.diff(self.levels) <= 0).any() or (np.diff(self.tokens) < 0).any() or self.tokens[0] < 1:
            raise ValueError("quantile levels must increase, and lengths must be 1 or more and not decrease")

    @property
    def mean(self) -> float:
        """Mean of the interpolated distribution (the trapezoid rule is exact)."""
        widths, tokens = np.diff(self.levels), np.asarray(self.tokens, dtype=float)
        return float(np.sum(widths * (tokens[1:] + tokens[:-1]) / 2))

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` lengths by inverse transform."""
        return np.rint(np.interp(rng.random(count), self.levels, self.tokens)).astype(np.int64)
