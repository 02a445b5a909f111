"""Several kinds of accelerator in one fleet: columns from sized candidates, members from the program's answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import COST_DIGITS, Candidate
from plimsoll_recommender.search.explore import CENT, Explored
from plimsoll_recommender.search.mixing import Bounds, Column, cheapest_mix

Members = tuple[tuple[Candidate, int], ...]

ENOUGH: Final = 1e-6
"""A fleet that carries all but this share of the demand carries it: the arithmetic's own error."""


def mixed(ask: Ask, found: Explored) -> Members:
    """The cheapest fleet of up to `max_kinds` kinds, its largest part first; empty when one kind does as well."""
    if not ask.limits.mix_accelerators or ask.demand is None or len(ask.gpus) < 2:
        return ()
    usable = [c for c in found.looked if c.sized]
    columns = _undominated(ask, usable)
    counts = cheapest_mix([_column(ask, c) for c in columns], _bounds(ask))
    if counts is None:
        return ()
    members = [(candidate, count) for candidate, count in zip(columns, counts, strict=True) if count]
    members.sort(key=lambda member: -carried(ask, member[0]) * member[1])
    return tuple(members) if _better(ask, members, found.best) else ()


def carried(ask: Ask, candidate: Candidate) -> float:
    """Of the demand, what one replica carries with headroom kept."""
    each = candidate.rate if ask.workload.requests_per_second is not None else candidate.running
    return each * (1 - ask.limits.headroom)


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


def _undominated(ask: Ask, usable: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no other of the same kind replaces: as much carried with as many copies as fit the same GPUs."""
    kept: list[Candidate] = []
    for candidate in sorted(usable, key=lambda c: (c.shape.gpus, -carried(ask, c), c.form.order)):
        gpus, carries = candidate.shape.gpus, carried(ask, candidate)
        replaced = any(
            other.gpu == candidate.gpu and gpus // other.shape.gpus * carried(ask, other) >= carries for other in kept
        )
        # Smaller replicas may be too many where their number is limited.
        if not replaced or ask.limits.max_replicas is not None:
            kept.append(candidate)
    return kept


def _column(ask: Ask, candidate: Candidate) -> Column:
    return Column(
        kind=ask.gpus.index(candidate.gpu),
        gpus=candidate.shape.gpus,
        cost=candidate.shape.gpus * ask.price(candidate.gpu),
        carries=carried(ask, candidate),
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
