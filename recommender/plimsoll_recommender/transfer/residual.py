"""The error of physics on measured models: what it corrects of an unseen one, and how unsure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.transfer.covariance import Rows, Term

if TYPE_CHECKING:
    from numpy.typing import NDArray

VARIANCE_SPREAD: Final = 1.5
"""Standard deviation of ln(variance) around what a term states: with few groups, likelihood alone runs to extremes."""

LEAST_NOISE: Final = 1e-4
"""Least variance of a single measurement, in square log units (1 %): keeps the covariance invertible."""

SPREAD_RANGE: Final = (0.8, 2.0)
"""Least and most factor on the standard deviation found by leaving groups out: few groups say no more."""

ITERATIONS: Final = 40
"""Most steps of the fit of variances."""


@dataclass(frozen=True)
class Posterior:
    """What is expected of rows, jointly.

    Args:
        mean: shape (rows,).
        covariance: shape (rows, rows), of measurements to come, their noise included.
    """

    mean: NDArray[Any]
    covariance: NDArray[Any]

    def bound(self, deviations: float) -> NDArray[Any]:
        """The mean plus a number of each row's standard deviations, shape (rows,)."""
        import numpy as np

        bound: NDArray[Any] = self.mean + deviations * np.sqrt(np.diag(self.covariance))
        return bound

    def draws(self, count: int, seed: int) -> NDArray[Any]:
        """Joint samples, shape (count, rows); the same seed gives the same samples."""
        import numpy as np

        root = np.linalg.cholesky(self.covariance + 1e-9 * np.eye(len(self.mean)))
        normal = np.random.default_rng(seed).standard_normal((count, len(self.mean)))
        samples: NDArray[Any] = self.mean + normal @ root.T
        return samples


@dataclass(frozen=True)
class Residual:
    """A Gaussian process fitted to residuals of measured rows.

    Args:
        rows: what was measured.
        residuals: measured less predicted (of logarithms: relative errors), shape (rows,).
        terms: parts of the error.
        variances: fitted variance of each term.
        noise: fitted variance of a single measurement.
        spread: factor on the standard deviation, 1 until `calibrated`.
    """

    rows: Rows
    residuals: NDArray[Any]
    terms: tuple[Term, ...]
    variances: tuple[float, ...]
    noise: float
    spread: float = 1.0

    def predict(self, rows: Rows) -> Posterior:
        """The residual to expect of other rows, jointly."""
        return self._given(range(len(self.rows)), rows)

    def calibrated(self) -> Residual:
        """The same, its spread scaled so that groups left out one at a time fall within it as often as they should.

        Each group is predicted from the others with the fitted variances; the factor is the root mean square of error
        over predicted standard deviation, kept in `SPREAD_RANGE`.
        """
        import numpy as np

        groups = tuple(dict.fromkeys(self.rows.groups))
        if len(groups) < 2:
            return self
        squares = []
        for group in groups:
            left_out, found = self.left_out(group)
            error = self.residuals[left_out] - found.mean
            squares.append(float(np.mean(error**2 / np.diag(found.covariance))) * self.spread**2)
        low, high = SPREAD_RANGE
        return replace(self, spread=min(max(math.sqrt(float(np.mean(squares))), low), high))

    def left_out(self, group: str) -> tuple[NDArray[Any], Posterior]:
        """What the other groups say of a measured group: the indices of its rows, and the posterior of those.

        The variances are those fitted with the group, which they hardly depend on; its residuals are not used.
        """
        import numpy as np

        groups = np.asarray(self.rows.groups, dtype=object)
        rows = np.flatnonzero(groups == group)
        return rows, self._given(np.flatnonzero(groups != group), self.rows.where(rows))

    def _given(self, kept: Any, rows: Rows) -> Posterior:
        import numpy as np

        kept = np.asarray(kept)
        known = self.rows.where(kept)
        inner = self._covariance(known, known) + self.noise * np.eye(len(known))
        cross = self._covariance(rows, known)
        outer = self._covariance(rows, rows) + self.noise * np.eye(len(rows))
        root = np.linalg.cholesky(inner)
        half = np.linalg.solve(root, cross.T)
        mean = half.T @ np.linalg.solve(root, self.residuals[kept])
        covariance = self.spread**2 * (outer - half.T @ half)
        return Posterior(mean, 0.5 * (covariance + covariance.T))

    def _covariance(self, left: Rows, right: Rows) -> NDArray[Any]:
        import numpy as np

        total: NDArray[Any] = np.zeros((len(left), len(right)))
        for term, variance in zip(self.terms, self.variances, strict=True):
            total = total + variance * term.between(left, right)
        return total


def fit(rows: Rows, residuals: NDArray[Any], terms: tuple[Term, ...], noise: float = 0.003) -> Residual:
    """The process that makes the residuals most likely, its variances drawn to what the terms state.

    Maximises the marginal likelihood (Rasmussen and Williams, equation 5.8) with a normal prior on ln(variance).

    Args:
        rows: what was measured.
        residuals: measured less predicted, shape (rows,).
        terms: parts of the error.
        noise: expected variance of a single measurement.

    Raises:
        RecommenderError: no rows, or residuals that are not finite or do not match the rows.
    """
    import numpy as np
    from scipy.optimize import minimize

    residuals = np.asarray(residuals, dtype=float)
    if not len(rows) or residuals.shape != (len(rows),) or not np.isfinite(residuals).all():
        raise RecommenderError(
            f"residuals of shape {residuals.shape} for {len(rows)} rows: give one finite number per measured row"
        )
    likenesses = [*(term.between(rows, rows) for term in terms), np.eye(len(rows))]
    flat = np.array([likeness.ravel() for likeness in likenesses])
    expected = np.log([*(term.variance for term in terms), noise])

    def cost(logs: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        variances = np.exp(logs)
        total = (variances @ flat).reshape(len(rows), len(rows)) + LEAST_NOISE * np.eye(len(rows))
        root = np.linalg.cholesky(total)
        inverse = np.linalg.inv(total)
        weights = inverse @ residuals
        drawn = (logs - expected) / VARIANCE_SPREAD
        value = 0.5 * residuals @ weights + np.log(np.diag(root)).sum() + 0.5 * drawn @ drawn
        # d/d ln v of the above: half the trace of (K^-1 - a a^T) dK.
        slope = 0.5 * (inverse - np.outer(weights, weights))
        gradient = variances * (flat @ slope.ravel())
        return float(value), gradient + drawn / VARIANCE_SPREAD

    found = minimize(cost, expected, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    variances = np.exp(found.x)
    return Residual(
        rows, residuals, terms, tuple(float(value) for value in variances[:-1]), LEAST_NOISE + float(variances[-1])
    )
