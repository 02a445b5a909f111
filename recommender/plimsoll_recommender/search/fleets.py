"""Several kinds of accelerator in one fleet: columns from candidates, members from the program's answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import COST_DIGITS, Candidate, fitted
from plimsoll_recommender.search.covering import Bounds, Column, TooManyBranchesError, cheapest_cover
from plimsoll_recommender.search.explore import CENT, Explored, size
from plimsoll_recommender.search.mixing import cheapest_mix
from plimsoll_recommender.search.outlook import carries_at_most
from plimsoll_recommender.search.physics import datasheet_bound

Members = tuple[tuple[Candidate, int], ...]

AHEAD: Final = 16
"""Parts that are fitted with those that were taken on a datasheet's word: fitting takes less than choosing anew."""

ENOUGH: Final = 1e-6
"""A fleet that carries all but this share of the demand carries it: the arithmetic's own error."""


@dataclass(eq=False)
class _Part:
    """A place that a mix may have, and what one replica of it carries: a bound until it is sized.

    Args:
        candidate: as far as it is known.
        kind: number of its accelerator.
        gpus: of a replica.
        price: of a replica per hour.
        carries: of the demand, headroom kept; never less than the truth.
    """

    candidate: Candidate
    kind: int
    gpus: int
    price: float
    carries: float

    @property
    def known(self) -> bool:
        """Whether what it carries is exact."""
        return self.candidate.sized

    @property
    def fitted(self) -> bool:
        """Whether it has settings, so that its bound is one of step times and not of datasheets."""
        return self.candidate.replica is not None


def mixed(ask: Ask, found: Explored) -> Members:
    """The cheapest fleet of up to `max_kinds` kinds, its largest part first; empty when one kind does as well.

    The fleet is chosen with bounds of what places carry where they are not sized. Those that it takes are looked at
    more closely, until it takes only sized ones: nothing else could have done better even at its bound. What is sized
    on the way is kept in what was found.
    """
    if not ask.limits.mix_accelerators or ask.demand is None or len(ask.gpus) < 2:
        return ()
    parts = _parts(ask, found)
    limit = _enough(ask, found, parts)
    parts = _worthwhile(ask, found, parts, limit)
    while parts:
        columns = _undominated(ask, parts)
        counts = cheapest_mix([_column(ask, part) for part in columns], _bounds(ask, limit))
        if counts is None:
            return ()
        taken = [(part, count) for part, count in zip(columns, counts, strict=True) if count]
        guessed = [part for part, _ in taken if not part.known]
        if not guessed:
            members = sorted(
                ((part.candidate, count) for part, count in taken), key=lambda m: -carried(ask, m[0]) * m[1]
            )
            return tuple(members) if _better(ask, members, found.best) else ()
        ahead = _next_in_line(columns) if any(not part.fitted for part in guessed) else []
        for part in dict.fromkeys([*guessed, *ahead]):
            _nearer(ask, found, part)
        parts = [part for part in parts if part.carries > 0]
    return ()


def _enough(ask: Ask, found: Explored, parts: Sequence[_Part]) -> float:
    """What a fleet of what is sized costs that carries the demand: no mix need cost more."""
    alone = math.inf if found.best is None or found.best.short else found.best.hourly_cost
    sized = [_column(ask, part) for part in parts if part.known and part.carries > 0]
    try:
        counts = cheapest_cover(sized, _bounds(ask, alone + CENT))
    except TooManyBranchesError:
        counts = None
    if counts is None:
        return alone + CENT
    return math.fsum(column.cost * count for column, count in zip(sized, counts, strict=True)) + CENT


def _worthwhile(ask: Ask, found: Explored, parts: Sequence[_Part], limit: float) -> list[_Part]:
    """Places that a fleet within the limit could have.

    A fleet with a replica of a place costs at least that and, for what is left of the demand, the least that any place
    takes for carrying it.
    """
    demand, left = ask.demand or 0.0, [part for part in parts if part.carries > 0]
    while left and math.isfinite(limit):
        cheapest = min(left, key=lambda part: part.price / part.carries)
        least = cheapest.price / cheapest.carries
        left = [part for part in left if part.price + max(0.0, demand - part.carries) * least <= limit]
        if cheapest.fitted:
            break
        _nearer(ask, found, cheapest)
        left = [part for part in left if part.carries > 0]
    return left


def _next_in_line(columns: Sequence[_Part]) -> list[_Part]:
    """Parts that stand on a datasheet's word and look best by it: the next to be taken."""
    vague = sorted((part for part in columns if not part.fitted), key=lambda part: part.price / part.carries)
    return vague[:AHEAD]


def _parts(ask: Ask, found: Explored) -> list[_Part]:
    kinds = {gpu.product: kind for kind, gpu in enumerate(ask.gpus)}
    usable = [candidate for candidate in found.looked if not candidate.refused or candidate.sized]
    return [
        _Part(
            candidate,
            kinds[candidate.gpu.product],
            candidate.shape.gpus,
            candidate.shape.gpus * ask.price(candidate.gpu),
            _carries(ask, candidate),
        )
        for candidate in usable
    ]


def _carries(ask: Ask, candidate: Candidate) -> float:
    """Of the demand, the most that one replica may carry, by what is known of it."""
    if candidate.sized:
        return carried(ask, candidate)
    bound = carries_at_most(ask, candidate) if candidate.replica is not None else datasheet_bound(ask, candidate.place)
    return _share(ask, *bound)


def _nearer(ask: Ask, found: Explored, part: _Part) -> None:
    """Know a part better: what fits instead of datasheets, then what it carries; nothing when it cannot be used."""
    before = part.candidate
    after = fitted(ask, before.place) if before.replica is None else size(ask, found, before)
    if before.at_least is not None and not after.sized and not after.refused:
        after = replace(after, at_least=before.at_least)
    found.looked[found.looked.index(before)] = after
    part.candidate = after
    part.carries = 0.0 if after.refused else min(part.carries, _carries(ask, after))


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
    kept: dict[int, list[_Part]] = {}
    # Smaller replicas may be too many where their number is limited.
    limited = ask.limits.max_replicas is not None
    for part in sorted(parts, key=lambda p: (p.gpus, -p.carries, p.candidate.form.order)):
        same = kept.setdefault(part.kind, [])
        if limited or all(part.gpus // other.gpus * other.carries < part.carries for other in same):
            same.append(part)
    return list(itertools.chain.from_iterable(kept.values()))


def _column(ask: Ask, part: _Part) -> Column:
    return Column(part.kind, part.gpus, part.price, part.carries, most=ask.limits.max_replicas or 10**6)


def _bounds(ask: Ask, limit: float) -> Bounds:
    """Bounds of a fleet that costs no more than a limit."""
    limits = ask.limits
    assert ask.demand is not None
    return Bounds(
        demand=ask.demand,
        kinds=limits.max_kinds,
        gpus_of_kind=tuple(float(limits.max_gpus.get(gpu.product, math.inf)) for gpu in ask.gpus),
        fewest=max(1, limits.min_replicas),
        most=float(limits.max_replicas) if limits.max_replicas is not None else math.inf,
        budget=min(limit, limits.budget_per_hour if limits.budget_per_hour is not None else math.inf),
    )
