"""A fleet of several kinds of accelerator: how many replicas of each.

    minimise    sum of cost x replicas
    such that   sum of load line x usable share x replicas >= demand
                GPUs of a kind <= max_gpus of it, at most K kinds, replicas within their bounds, cost <= budget

Of the cheapest fleets the one with fewest GPUs is taken. Branch and bound finds it in milliseconds in ordinary cases
(`covering`); an integer program (HiGHS through SciPy) answers the rest: where branches are too many, and where the
limits keep every fleet below the demand. Then the fleet that carries most is taken, and of those the cheapest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from plimsoll_recommender.search.covering import TOLERANCE, Bounds, Column, TooManyBranchesError, cheapest_cover

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.optimize import LinearConstraint

SECONDS: Final = 10.0
"""Time limit of one program: a guard, programs of a hundred columns take milliseconds."""


def cheapest_mix(columns: Sequence[Column], bounds: Bounds) -> tuple[int, ...] | None:
    """Replicas of every column; None when not even one replica is allowed.

    Carries the demand at the least cost, with the fewest GPUs among equals; when the limits do not allow that, carries
    the most, at the least cost.
    """
    try:
        cover = cheapest_cover(columns, bounds)
    except TooManyBranchesError:
        cover = by_program(columns, bounds)
    return cover or most_carried(columns, bounds)


def by_program(columns: Sequence[Column], bounds: Bounds) -> tuple[int, ...] | None:
    """What `cheapest_cover` finds, by two integer programs: the least cost, then the fewest GPUs for it."""
    if not columns:
        return None
    program = _Program(columns, bounds)
    costs, gpus = [column.cost for column in columns], [float(column.gpus) for column in columns]
    found = program.least(costs, carried=bounds.demand)
    if found is None:
        return None
    cost = math.fsum(column.cost * count for column, count in zip(columns, found, strict=True))
    # Slack between the two, so that the second is not cut off by rounding in the first.
    return program.least(gpus, carried=bounds.demand, cost=cost * (1 + TOLERANCE) + TOLERANCE) or found


def most_carried(columns: Sequence[Column], bounds: Bounds) -> tuple[int, ...] | None:
    """The replicas that carry most within the bounds, at the least cost; None when not even one is allowed."""
    if not columns:
        return None
    program = _Program(columns, bounds)
    most = program.least([-column.carries for column in columns])
    if most is None or not any(most):
        return None
    carried = math.fsum(column.carries * count for column, count in zip(columns, most, strict=True))
    return program.least([column.cost for column in columns], carried=carried * (1 - TOLERANCE)) or most


class _Program:
    """Variables: replicas of every column, then whether a kind is used."""

    def __init__(self, columns: Sequence[Column], bounds: Bounds) -> None:
        self._columns, self._bounds = columns, bounds
        self._kinds = len(bounds.gpus_of_kind)
        self._most = [self._most_of(column) for column in columns]

    def _most_of(self, column: Column) -> int:
        """Replicas of a column that a sensible fleet has at most: what carries all alone, or keeps a bound."""
        bounds = self._bounds
        alone = max(math.ceil(bounds.demand / column.carries) + 1, bounds.fewest)
        by_budget = bounds.budget / column.cost + TOLERANCE if column.cost else math.inf
        by_gpus = bounds.gpus_of_kind[column.kind] / column.gpus
        return max(0, int(min(alone, column.most, by_gpus, by_budget, bounds.most)))

    def least(
        self, weights: Sequence[float], *, carried: float = 0.0, cost: float = math.inf
    ) -> tuple[int, ...] | None:
        """The replicas that weigh least while carrying and costing what is given; None when there are none."""
        import numpy as np
        from scipy.optimize import Bounds as Box
        from scipy.optimize import milp

        count = len(self._columns) + self._kinds
        objective = np.array([*weights, *[0.0] * self._kinds])
        solved = milp(
            objective / max(float(np.abs(objective).max()), 1e-12),
            constraints=self._rules(carried, cost),
            integrality=np.ones(count),
            bounds=Box(np.zeros(count), np.array([*self._most, *[1] * self._kinds], dtype=float)),
            options={"mip_rel_gap": 0.0, "time_limit": SECONDS},
        )
        if solved.x is None:
            return None
        return tuple(round(value) for value in solved.x[: len(self._columns)])

    def _rules(self, carried: float, cost: float) -> list[LinearConstraint]:
        from scipy.optimize import LinearConstraint

        bounds, columns = self._bounds, self._columns
        rules = [LinearConstraint(self._row([1.0] * len(columns)), bounds.fewest, bounds.most)]
        rules.append(LinearConstraint(self._row([], [1.0] * self._kinds), 0, bounds.kinds))
        if carried > 0:
            # Scaled to one, so that the solver's absolute tolerance is a relative one.
            rules.append(LinearConstraint(self._row([column.carries / carried for column in columns]), 1, math.inf))
        limit = min(cost, bounds.budget)
        if math.isfinite(limit):
            rules.append(
                LinearConstraint(self._row([column.cost / max(limit, 1e-9) for column in columns]), 0, 1 + 1e-9)
            )
        for kind, most in enumerate(bounds.gpus_of_kind):
            used = [float(column.gpus) if column.kind == kind else 0.0 for column in columns]
            if math.isfinite(most):
                rules.append(LinearConstraint(self._row(used), 0, most))
        for place, column in enumerate(columns):
            replicas = [1.0 if other == place else 0.0 for other in range(len(columns))]
            chosen = [-float(self._most[place]) if kind == column.kind else 0.0 for kind in range(self._kinds)]
            rules.append(LinearConstraint(self._row(replicas, chosen), -math.inf, 0))
        return rules

    def _row(self, replicas: Sequence[float], kinds: Sequence[float] = ()) -> NDArray[np.float64]:
        import numpy as np

        row = np.zeros(len(self._columns) + self._kinds)
        row[: len(replicas)] = replicas
        row[len(self._columns) : len(self._columns) + len(kinds)] = kinds
        return row
