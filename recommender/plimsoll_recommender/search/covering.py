"""The cheapest fleet that carries a demand, by branch and bound over which replicas stand beside the cheapest carrier.

Of a fleet's ways to run a replica, one carries its share at the least cost: the leader. Given the other replicas, what
is left takes ceil(left / carries) of the leader, and costs at least left x cost / carries whatever takes it. So only
the others are branched over, and a branch ends where that least is more than the best fleet found: what others cost
above the leader's rate is wasted, and a fleet near the bound wastes little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

TOLERANCE: Final = 1e-9
"""Relative difference below which costs, and loads, are the same."""

MOST_BRANCHES: Final = 20_000
"""Branches looked at before the search gives up: a tenth of a second. Ordinary questions take hundreds."""


class TooManyBranchesError(Exception):
    """The search ended before the answer was certain."""


@dataclass(frozen=True)
class Column:
    """One way to run a replica.

    Args:
        kind: number of its kind of accelerator.
        gpus: GPUs of one replica.
        cost: of one replica per hour.
        carries: of the demand, per replica, headroom kept; above zero.
        most: most replicas, by the limits.
    """

    kind: int
    gpus: int
    cost: float
    carries: float
    most: int


@dataclass(frozen=True)
class Bounds:
    """What the whole fleet must keep to.

    Args:
        demand: what must be carried; above zero.
        kinds: most kinds of accelerator.
        gpus_of_kind: most GPUs by kind; infinite where not limited.
        fewest, most: replicas of the fleet.
        budget: most that it may cost per hour.
    """

    demand: float
    kinds: int
    gpus_of_kind: tuple[float, ...]
    fewest: int = 1
    most: float = math.inf
    budget: float = math.inf


def cheapest_cover(columns: Sequence[Column], bounds: Bounds, branches: int = MOST_BRANCHES) -> tuple[int, ...] | None:
    """Replicas of every column that carry the demand at the least cost, of equals with the fewest GPUs.

    Returns None when no fleet within the bounds carries it.

    Raises:
        TooManyBranchesError: it is not known within so many branches.
    """
    order = sorted(range(len(columns)), key=lambda place: (columns[place].cost / columns[place].carries, place))
    fleet = _Search([columns[place] for place in order], bounds, branches).cheapest()
    if fleet is None:
        return None
    copies = {order[place]: count for place, count in fleet.items()}
    return tuple(copies.get(place, 0) for place in range(len(columns)))


class _Branch(NamedTuple):
    """Replicas beside the leader.

    Args:
        fleet: copies by place in the order of cost per demand carried.
        kinds: of them and the leader.
        cost: of them.
        left: of the demand, what they do not carry; below zero when they carry more.
        beside: places whose copies may be added, that of the copy added last and later ones: so no fleet comes twice.
    """

    fleet: dict[int, int]
    kinds: frozenset[int]
    cost: float
    left: float
    beside: Sequence[int]


class _Search:
    """One search over columns in the order of cost per demand carried."""

    def __init__(self, columns: Sequence[Column], bounds: Bounds, branches: int) -> None:
        self._columns, self._bounds, self._branches = columns, bounds, branches
        self._least = TOLERANCE * bounds.demand
        self._unlimited = math.isinf(bounds.most) and all(map(math.isinf, bounds.gpus_of_kind))
        self._fleet: dict[int, int] | None = None
        self._cost, self._gpus = bounds.budget, 0

    def cheapest(self) -> dict[int, int] | None:
        """Copies by place of the best fleet."""
        for leader, column in enumerate(self._columns):
            rate = column.cost / column.carries
            if self._beaten(self._bounds.demand * rate):
                break
            others = range(leader + 1, len(self._columns))
            waiting = [_Branch({}, frozenset([column.kind]), 0.0, self._bounds.demand, others)]
            self._judge(leader, waiting[0])
            while waiting:
                for branch in self._beyond(waiting.pop(), rate):
                    self._judge(leader, branch)
                    waiting.append(branch)
        return self._fleet

    def _beyond(self, branch: _Branch, rate: float) -> Iterator[_Branch]:
        """The branch with one replica more, where that can still lead to the best fleet.

        Args:
            branch: where to start.
            rate: cost of what the leader carries, per unit of the demand.
        """
        if branch.left <= self._least and sum(branch.fleet.values()) >= self._bounds.fewest:
            return
        # What is too dear, or of one kind too many, stays so in every branch beyond.
        beside = self._affordable(branch, rate)
        for number, place in enumerate(beside):
            if not self._branches:
                raise TooManyBranchesError
            self._branches -= 1
            column, fleet = self._columns[place], branch.fleet.copy()
            fleet[place] = fleet.get(place, 0) + 1
            if self._allowed(fleet):
                kinds = branch.kinds if column.kind in branch.kinds else branch.kinds | {column.kind}
                yield _Branch(fleet, kinds, branch.cost + column.cost, branch.left - column.carries, beside[number:])

    def _affordable(self, branch: _Branch, rate: float) -> list[int]:
        """Places of which one copy more is allowed a branch and does not make it dearer than the best fleet."""
        columns, kinds, left = self._columns, branch.kinds, branch.left
        rest = self._cost + self._margin - branch.cost
        full = len(kinds) >= self._bounds.kinds
        found = []
        for place in branch.beside:
            column = columns[place]
            beyond = left - column.carries
            if column.cost + (beyond * rate if beyond > 0 else 0.0) <= rest and (not full or column.kind in kinds):
                found.append(place)
        return found

    def _judge(self, leader: int, branch: _Branch) -> None:
        """Keep the branch with as many leaders as it needs, where that is the best fleet so far."""
        column, bounds = self._columns[leader], self._bounds
        need = math.ceil(branch.left / column.carries - TOLERANCE) if branch.left > self._least else 0
        copies = max(need, bounds.fewest - sum(branch.fleet.values()), 0)
        fleet = {**branch.fleet, leader: copies} if copies else branch.fleet
        cost = branch.cost + copies * column.cost
        if self._beaten(cost) or not fleet or not self._allowed(fleet):
            return
        gpus = sum(self._columns[place].gpus * count for place, count in fleet.items())
        if self._fleet is None or cost < self._cost - self._margin or gpus < self._gpus:
            self._fleet, self._cost, self._gpus = fleet, min(cost, self._cost), gpus

    @property
    def _margin(self) -> float:
        return TOLERANCE * (1.0 + self._cost)

    def _beaten(self, least: float) -> bool:
        """Whether a fleet that costs at least this much is dearer than the best."""
        return least > self._cost + self._margin

    def _allowed(self, fleet: dict[int, int]) -> bool:
        """Whether copies and GPUs keep to the bounds; kinds are counted by branch."""
        if any(count > self._columns[place].most for place, count in fleet.items()):
            return False
        if self._unlimited:
            return True
        bounds, gpus = self._bounds, dict[int, int]()
        for place, count in fleet.items():
            column = self._columns[place]
            gpus[column.kind] = gpus.get(column.kind, 0) + count * column.gpus
        return sum(fleet.values()) <= bounds.most and all(
            number <= bounds.gpus_of_kind[kind] for kind, number in gpus.items()
        )
