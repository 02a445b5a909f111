"""Several kinds of accelerator in one fleet: columns from candidates, members from the program's answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import COST_DIGITS, Candidate, fitted
from plimsoll_recommender.search.explore import CENT, Explored, size
from plimsoll_recommender.search.mixing import Bounds, Column, cheapest_mix
from plimsoll_recommender.search.outlook import carries_at_most
from plimsoll_recommender.search.physics import datasheet_bound

Members = tuple[tuple[Candidate, int], ...]

ENOUGH: Final = 1e-6
"""A fleet that carries all but this share of the demand carries it: the arithmetic's own error."""


@dataclass
class _Part:
    """A place that a mix may have, and what one replica of it carries: a bound until it is sized.

    Args:
        candidate: as far as it is known.
        carries: of the demand, headroom kept; never less than the truth.
    """

    candidate: Candidate
    carries: float

    @property
    def known(self) -> bool:
        """Whether what it carries is exact."""
        return self.candidate.sized


def mixed(ask: Ask, found: Explored) -> Members:
    """The cheapest fleet of up to `max_kinds` kinds, its largest part first; empty when one kind does as well.

    The program is solved with bounds of what places carry where they are not sized, and those that it takes are sized,
    until it takes only sized ones: nothing else could have done better even at its bound. What is sized on the way is
    kept in what was found.
    """
    if not ask.limits.mix_accelerators or ask.demand is None or len(ask.gpus) < 2:
        return ()
    parts = _worthwhile(ask, found)
    while parts:
        columns = _undominated(ask, parts)
        counts = cheapest_mix([_column(ask, part) for part in columns], _bounds(ask))
        if counts is None:
            return ()
        taken = [(part, count) for part, count in zip(columns, counts, strict=True) if count]
        guessed = [part for part, _ in taken if not part.known]
        if not guessed:
            members = sorted(
                ((part.candidate, count) for part, count in taken), key=lambda m: -carried(ask, m[0]) * m[1]
            )
            return tuple(members) if _better(ask, members, found.best) else ()
        for part in guessed:
            _nearer(ask, found, part)
        parts = [part for part in parts if part.carries > 0]
    return ()


def _worthwhile(ask: Ask, found: Explored) -> list[_Part]:
    """Places that a fleet as cheap as the best of one kind could have.

    A fleet with a replica of a place costs at least that and, for what is left of the demand, the least that any place
    takes for carrying it.
    """
    parts = [_part(ask, candidate) for candidate in found.looked if not candidate.refused or candidate.sized]
    parts = [part for part in parts if part.carries > 0]
    limit = math.inf if found.best is None or found.best.short else found.best.hourly_cost
    limit = min(limit, _of_two(ask, [part for part in parts if part.known])) + CENT
    demand = ask.demand or 0.0

    def kept(least: float) -> list[_Part]:
        return [part for part in parts if _price(ask, part) + max(0.0, demand - part.carries) * least <= limit]

    while parts and math.isfinite(limit):
        cheapest = min(parts, key=lambda part: _price(ask, part) / part.carries)
        parts = kept(_price(ask, cheapest) / cheapest.carries)
        vague = [part for part in parts if part.candidate.replica is None]
        if not vague:
            break
        for part in vague if cheapest.candidate.replica is not None else [cheapest]:
            _nearer(ask, found, part)
        parts = [part for part in parts if part.carries > 0]
    return parts


def _price(ask: Ask, part: _Part) -> float:
    return part.candidate.shape.gpus * ask.price(part.candidate.gpu)


def _of_two(ask: Ask, sized: Sequence[_Part]) -> float:
    """What a fleet of two sized places costs, as many of the first as do not carry too much; infinite where limits
    may forbid it."""
    limits = ask.limits
    if limits.max_gpus or limits.max_replicas is not None or limits.budget_per_hour is not None or limits.max_kinds < 2:
        return math.inf
    demand, least = ask.demand or 0.0, max(1, limits.min_replicas)
    costs = [math.inf]
    for first in sized:
        copies = int(demand / first.carries)
        left = demand - copies * first.carries
        for second in sized:
            more = math.ceil(left / second.carries)
            if copies + more >= least:
                costs.append(copies * _price(ask, first) + more * _price(ask, second))
    return min(costs)


def _part(ask: Ask, candidate: Candidate) -> _Part:
    if candidate.sized:
        return _Part(candidate, carried(ask, candidate))
    bound = carries_at_most(ask, candidate) if candidate.replica is not None else datasheet_bound(ask, candidate.place)
    return _Part(candidate, _share(ask, *bound))


def _nearer(ask: Ask, found: Explored, part: _Part) -> None:
    """Know a part better: what fits instead of datasheets, then what it carries; nothing when it cannot be used."""
    before = part.candidate
    after = fitted(ask, before.place) if before.replica is None else size(ask, found, before)
    if before.at_least is not None and not after.sized and not after.refused:
        after = replace(after, at_least=before.at_least)
    found.looked[found.looked.index(before)] = after
    part.candidate = after
    part.carries = 0.0 if after.refused else min(part.carries, _part(ask, after).carries)


def carried(ask: Ask, candidate: Candidate) -> float:
    """Of the demand, what one replica carries with headroom kept."""
    return _share(ask, candidate.rate, candidate.running)


def _share(ask: Ask, rate: float, running: float) -> float:
    return (rate if ask.workload.requests_per_second is not None else running) * (1 - ask.limits.headroom)


def covered(ask: Ask, members: Sequence[tuple[Candidate, int]]) -> float:
    """Share of the demand that a fleet carries; at least one when it carries all."""
    return math.fsum(carried(ask, candidate) * count for candidate, count in members) / (ask.demand or math.inf)


def cost_of(ask: Ask, members: Sequence[tuple[Candidate, int]]) -> float:
    """Price of a fleet per hour."""
    cost = math.fsum(candidate.shape.gpus * ask.price(candidate.gpu) * count for candidate, count in members)
    return round(cost, COST_DIGITS)


def _better(ask: Ask, members: Sequence[tuple[Candidate, int]], best: Candidate | None) -> bool:
    """Whether a mix is better than the best fleet of one kind: it carries more of the demand, or costs less."""
    if len({candidate.gpu for candidate, _ in members}) < 2:
        return False
    if best is None:
        return True
    whole, alone = (min(1.0, covered(ask, fleet)) for fleet in (members, ((best, best.replicas),)))
    if abs(whole - alone) > ENOUGH:
        return whole > alone
    return cost_of(ask, members) < best.hourly_cost - CENT


def _undominated(ask: Ask, parts: Sequence[_Part]) -> list[_Part]:
    """Parts that no other of the same kind replaces: as much carried with as many copies as fit the same GPUs."""
    kept: list[_Part] = []
    for part in sorted(parts, key=lambda p: (p.candidate.shape.gpus, -p.carries, p.candidate.form.order)):
        gpus, gpu = part.candidate.shape.gpus, part.candidate.gpu
        replaced = any(
            other.candidate.gpu == gpu and gpus // other.candidate.shape.gpus * other.carries >= part.carries
            for other in kept
        )
        # Smaller replicas may be too many where their number is limited.
        if not replaced or ask.limits.max_replicas is not None:
            kept.append(part)
    return kept


def _column(ask: Ask, part: _Part) -> Column:
    return Column(
        kind=ask.gpus.index(part.candidate.gpu),
        gpus=part.candidate.shape.gpus,
        cost=_price(ask, part),
        carries=part.carries,
        most=ask.limits.max_replicas or 10**6,
    )


def _bounds(ask: Ask) -> Bounds:
    limits = ask.limits
    assert ask.demand is not None
    return Bounds(
        demand=ask.demand,
        kinds=limits.max_kinds,
        gpus_of_kind=tuple(float(limits.max_gpus.get(gpu.product, math.inf)) for gpu in ask.gpus),
        fewest=max(1, limits.min_replicas),
        most=float(limits.max_replicas) if limits.max_replicas is not None else math.inf,
        budget=limits.budget_per_hour if limits.budget_per_hour is not None else math.inf,
    )
