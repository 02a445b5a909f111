"""Shrinkage: the most probable correction given observations that may be wrong.

Corrections of related engines are jointly normal (a Gaussian process over keys); an observation's error is normal near
zero and has linear tails (Huber, 1964), so that a wrong one pulls only so far. The posterior's mode is the minimum of a
convex function: it does not depend on the order of observations, and one more observation moves the estimate towards
that observation and never past it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z90: Final = NormalDist().inv_cdf(0.95)
"""Standard deviations either side of the mean that hold nine of ten."""

HUBER: Final = 2.0
"""Errors, in standard deviations of the noise, beyond which an observation pulls no harder."""

LEAST_NOISE: Final = 1e-4
"""Least standard deviation that an observation is credited with: less would make the equations singular."""

MOST_ITERATIONS: Final = 200
CONVERGED: Final = 1e-11
"""Largest change of an estimate, in logarithms, at which iteration ends."""

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", contravariant=True)


class Correlation(Protocol[K_contra]):
    """Correlation (0 to 1) of the corrections at two keys."""

    def __call__(self, one: K_contra, other: K_contra, /) -> float: ...


@dataclass(frozen=True)
class Estimate:
    """A correction in logarithms: its most probable value and standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Posterior(Generic[K]):
    """Corrections given observations; ask it for one with `at`."""

    keys: tuple[K, ...]
    spread: float
    correlation: Correlation[K]
    inverse: NDArray[Any]
    weighted: NDArray[Any]

    def at(self, target: K) -> Estimate:
        """The correction at a key."""
        towards = [self.spread**2 * self.correlation(target, key) for key in self.keys]
        if not any(towards):
            return Estimate(0.0, self.spread)
        explained = float(towards @ self.inverse @ towards)
        return Estimate(float(towards @ self.weighted), math.sqrt(max(self.spread**2 - explained, 0.0)))


def posterior(observed: Sequence[tuple[K, float, float]], spread: float, correlation: Correlation[K]) -> Posterior[K]:
    """Corrections given observations.

    Args:
        observed: (key, ln(measured / predicted), standard deviation of its noise) of each observation.
        spread: standard deviation of a correction before any observation.
        correlation: of corrections at two keys.
    """
    import numpy as np

    keys = tuple(sorted({key for key, _, _ in observed}, key=repr))
    place = {key: index for index, key in enumerate(keys)}
    where = np.array([place[key] for key, _, _ in observed], dtype=int)
    values = np.array([value for _, value, _ in observed])
    noises = np.array([max(noise, LEAST_NOISE) for _, _, noise in observed])
    prior = spread**2 * np.array([[correlation(one, other) for other in keys] for one in keys]).reshape(
        len(keys), len(keys)
    )
    fitted = np.array([np.median(values[where == index]) for index in range(len(keys))])
    inverse: NDArray[Any] = prior
    mean: NDArray[Any] = fitted
    for _ in range(MOST_ITERATIONS if keys else 0):
        precision, mean = _pooled(values, noises, where, fitted)
        inverse = np.linalg.inv(prior + np.diag(1 / precision))
        before, fitted = fitted, prior @ inverse @ mean
        if float(np.max(np.abs(fitted - before))) < CONVERGED:
            break
    return Posterior(keys, spread, correlation, inverse, inverse @ mean)


def _pooled(
    values: NDArray[Any], noises: NDArray[Any], where: NDArray[Any], fitted: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(precision, weighted mean) of the observations of each key, those far from the fit weighted down."""
    import numpy as np

    distance = np.abs(values - fitted[where]) / noises
    weight = np.minimum(1.0, HUBER / np.maximum(distance, 1e-300)) / noises**2
    precision = np.bincount(where, weight)
    return precision, np.bincount(where, weight * values) / precision
