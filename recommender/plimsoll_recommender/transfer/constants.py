"""Constants that no data sheet states: what measurements make of a law's constants, and how much each one moves it.

A law is right for a model that was never measured when its form is; its constants (what an engine's host spends per
layer, what share of peak bandwidth a kernel reaches) are the same for many models and are learned from the measured
ones. Each constant is positive, has a value to expect and a spread around it, and is fitted on the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll_recommender.errors import RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVALUATIONS: Final = 60
"""Most steps of the fit; it settles in about half of them."""

SETTLED: Final = 1e-4
"""Relative change of the sum of errors at which the fit has settled."""

OUTLYING: Final = 1.5
"""Tolerances beyond which a row's error counts by its size and no longer by its square: some runs failed in part."""

PRIOR_WEIGHT: Final = 3.0
"""Rows that count once when what is expected of a constant does: rows of one model on one machine err alike."""

STEP: Final = 1e-4
"""Change of a constant's logarithm over which slopes are taken."""


@dataclass(frozen=True)
class Constant:
    """A constant of a law.

    Args:
        name: what it is called.
        value: what to expect of it, any unit, above zero.
        spread: standard deviation of its natural logarithm around that, above zero.
    """

    name: str
    value: float
    spread: float

    def __post_init__(self) -> None:
        if not (self.value > 0 and self.spread > 0):
            raise RecommenderError(f"constant {self.name}: give a value and a spread above zero")


Law = Callable[[Mapping[str, float]], "NDArray[Any]"]
"""What a law expects of every row, given its constants by name."""


def fit_constants(
    constants: Sequence[Constant], law: Law, measured: NDArray[Any], tolerances: NDArray[Any]
) -> dict[str, float]:
    """The constants by name with which a law comes nearest to measurements without leaving what is expected of them.

    Args:
        constants: what to fit.
        law: what it expects of every row, in the unit of `measured`.
        measured: shape (rows,).
        tolerances: error of each row that weighs as much as one spread of a constant, shape (rows,), above zero.

    Raises:
        RecommenderError: measurements that are not finite, or tolerances that do not match them.
    """
    import numpy as np
    from scipy.optimize import least_squares

    measured, tolerances = np.asarray(measured, dtype=float), np.asarray(tolerances, dtype=float)
    if not np.isfinite(measured).all() or tolerances.shape != measured.shape or not (tolerances > 0).all():
        raise RecommenderError(
            f"measurements of shape {measured.shape} with tolerances of shape {tolerances.shape}: give every row a "
            "finite measurement and a tolerance above zero"
        )
    expected = np.log([constant.value for constant in constants])
    spreads = np.array([constant.spread for constant in constants])

    def errors(logs: NDArray[Any]) -> NDArray[Any]:
        rows = (law(_named(constants, logs)) - measured) / tolerances
        apart: NDArray[Any] = np.concatenate([rows, math.sqrt(PRIOR_WEIGHT) * (logs - expected) / spreads])
        return apart

    found = least_squares(errors, expected, loss="soft_l1", f_scale=OUTLYING, ftol=SETTLED, max_nfev=EVALUATIONS)
    return _named(constants, found.x)


def slopes(constants: Sequence[Constant], law: Law, values: Mapping[str, float]) -> NDArray[Any]:
    """How much one spread of each constant moves what a law expects, shape (rows, constants), taken at `values`."""
    import numpy as np

    logs = np.log([values[constant.name] for constant in constants])
    at = law(values)
    columns = []
    for index, constant in enumerate(constants):
        moved = logs.copy()
        moved[index] += STEP
        columns.append((law(_named(constants, moved)) - at) / STEP * constant.spread)
    found: NDArray[Any] = np.stack(columns, axis=1)
    return found


def apart(constants: Sequence[Constant], values: Mapping[str, float]) -> NDArray[Any]:
    """How many spreads each constant lies above what was expected of it, shape (constants,)."""
    import numpy as np

    return np.array([math.log(values[one.name] / one.value) / one.spread for one in constants])


def _named(constants: Sequence[Constant], logs: NDArray[Any]) -> dict[str, float]:
    return {constant.name: math.exp(float(log)) for constant, log in zip(constants, logs, strict=True)}
