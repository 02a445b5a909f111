"""How many tasks there are, and where: Gaussian mixtures over the logarithms of (input, output) lengths."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_TASKS: Final = 8
"""Most tasks looked for: more are not told apart by two lengths."""

FITTED_REQUESTS: Final = 3000
"""Most requests that a mixture is fitted on, evenly drawn; quantiles are taken from all of them."""

LEAST_SPREAD: Final = 0.1
"""Least standard deviation of a task in log tokens: lengths within a tenth are the same, whole numbers or not."""

LEAST_SHARE: Final = 0.01
"""A mixture with a task of fewer requests than this is not used: its quantile would rest on too few."""

SEPARATION: Final = 2.0
"""Standard errors by which another task must raise the held-out log-likelihood."""

SEED: Final = 20_231_116
"""Of the fits: the same requests give the same tasks."""


@dataclass(frozen=True)
class Mixture:
    """Tasks in the plane of ln(1 + input) and ln(1 + output).

    Args:
        weights: share of each task, shape (tasks,).
        means: shape (tasks, 2).
        covariances: shape (tasks, 2, 2).
    """

    weights: NDArray[Any]
    means: NDArray[Any]
    covariances: NDArray[Any]

    def given_input(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Probability of each task given the prompt lengths in tokens (n,), shape (n, tasks)."""
        import numpy as np

        place = np.log1p(inputs.astype(float))[:, None]
        variance = self.covariances[None, :, 0, 0]
        logs = (
            np.log(self.weights)[None, :]
            - 0.5 * np.log(variance)
            - 0.5 * (place - self.means[None, :, 0]) ** 2 / variance
        )
        return _normalised(logs)

    def given_both(self, points: NDArray[Any]) -> NDArray[Any]:
        """Probability of each task given both log lengths (n, 2), shape (n, tasks)."""
        return _normalised(self._logs(points))

    def log_likelihood(self, points: NDArray[Any]) -> NDArray[Any]:
        """Log-likelihood of each point (n,)."""
        import numpy as np

        return np.asarray(np.logaddexp.reduce(self._logs(points), axis=1))

    def _logs(self, points: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        offset = points[:, None, :] - self.means[None, :, :]
        inverse = np.linalg.inv(self.covariances)
        distance = np.einsum("nki,kij,nkj->nk", offset, inverse, offset)
        spread = np.linalg.slogdet(self.covariances)[1]
        return np.asarray(np.log(self.weights)[None, :] - math.log(2 * math.pi) - 0.5 * (spread[None, :] + distance))


def _normalised(logs: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def mixture_of(points: NDArray[Any], most_tasks: int = MOST_TASKS) -> Mixture:
    """The mixture whose number of tasks the held-out likelihood justifies.

    The requests are put in order and dealt into two halves with a fixed seed; a mixture with one more task replaces the
    best so far when it raises the likelihood of the half it was not fitted on by `SEPARATION` standard errors.

    Args:
        points: ln(1 + tokens) of input and output, shape (n, 2), in any order.
        most_tasks: most tasks looked for.
    """
    import numpy as np

    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    if len(ordered) > FITTED_REQUESTS:
        ordered = ordered[np.linspace(0, len(ordered) - 1, FITTED_REQUESTS).round().astype(int)]
    shuffled = ordered[np.random.default_rng(SEED).permutation(len(ordered))]
    halves = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
    distinct = len(np.unique(ordered, axis=0))
    best, likelihood = 1, _held_out(halves, 1)
    for tasks in range(2, min(most_tasks, distinct, len(halves[0])) + 1):
        found = _held_out(halves, tasks)
        if found is None or likelihood is None:
            continue
        gain = found - likelihood
        if gain.mean() > SEPARATION * gain.std() / math.sqrt(len(gain)):
            best, likelihood = tasks, found
    fitted = _fitted(ordered, best)
    while best > 1 and (fitted is None or float(fitted.weights.min()) < LEAST_SHARE):
        best -= 1
        fitted = _fitted(ordered, best)
    assert fitted is not None  # One task is a mean and a covariance, which any points have.
    return fitted


def _held_out(halves: tuple[NDArray[Any], NDArray[Any]], tasks: int) -> NDArray[Any] | None:
    """Log-likelihood of each point under the fit on the other half; None when a fit has a task too small."""
    import numpy as np

    found = []
    for known, tested in (halves, halves[::-1]):
        fitted = _fitted(known, tasks)
        if fitted is None or float(fitted.weights.min()) < LEAST_SHARE:
            return None
        found.append(fitted.log_likelihood(tested))
    return np.concatenate(found)


def _fitted(points: NDArray[Any], tasks: int) -> Mixture | None:
    """A mixture with a number of tasks; None when there are fewer distinct points."""
    import numpy as np

    if tasks == 1:
        spread = np.cov(points.T, bias=True).reshape(2, 2) if len(points) > 1 else np.zeros((2, 2))
        return Mixture(np.ones(1), points.mean(axis=0)[None, :], (spread + LEAST_SPREAD**2 * np.eye(2))[None])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = GaussianMixture(
        tasks, reg_covar=LEAST_SPREAD**2, n_init=2, max_iter=200, init_params="k-means++", random_state=SEED
    )
    # Threads cost more than they save on matrices this small.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Duplicates leave fewer distinct points than tasks, or an iteration short of its end: the likelihood judges.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    return Mixture(model.weights_, model.means_, model.covariances_)
