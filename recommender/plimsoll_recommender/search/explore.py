"""The search: best first over all places, by what each would cost at least.

Every place is judged in up to three steps, each dearer to compute and nearer to the truth: what its fleet costs at
least by datasheets, what it costs at least by the step times of what fits, and what it costs. The search ends when the
least that any other place costs is more than the best found, so that nothing cheaper is missed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import (
    Candidate,
    fitted,
    preference,
    token_budgets,
    with_budget,
)
from plimsoll_recommender.search.outlook import least_cost
from plimsoll_recommender.search.physics import floor_with_load
from plimsoll_recommender.search.settings import Place
from plimsoll_recommender.search.shapes import shapes

WORTHWHILE_GAIN: Final = 0.02
"""A larger token budget must raise the load line by this much: it makes single steps, and so stalls, longer."""

CENT: Final = 1e-6
"""Costs that differ by less are the same."""


@dataclass(eq=False)
class Explored:
    """What a search found.

    Args:
        best: the cheapest fleet of one kind that meets the objectives; None when there is none.
        looked: every candidate, the best among them: sized, refused, or known to cost more.
        budgets: other token budgets that were tried for a candidate.
    """

    best: Candidate | None = None
    looked: list[Candidate] = field(default_factory=list)
    budgets: dict[Candidate, tuple[Candidate, ...]] = field(default_factory=dict)

    def beaten(self, least: float) -> bool:
        """Whether a fleet that costs at least this much cannot be better than the best."""
        return self.best is not None and not self.best.short and least > self.best.hourly_cost + CENT


def places(ask: Ask) -> tuple[list[Place], list[Candidate]]:
    """(places worth a look, those that a GPU cannot run at all)."""
    found, refused = [], []
    for form, gpu in itertools.product(ask.forms, ask.gpus):
        why = form.refused_on(gpu)
        for shape in shapes(ask, form.facts, gpu):
            place = Place(form, gpu, shape)
            if why:
                refused.append(Candidate(place, refused=why))
                break
            found.append(place)
    return found, refused


def explore(ask: Ask) -> Explored:
    """The cheapest fleet of one kind, and what else was seen on the way."""
    found = Explored()
    waiting, found.looked = places(ask)
    serial = itertools.count()
    # (least cost, order of arrival, candidate): a candidate without a replica has only its floor.
    heap = [(floor_with_load(ask, place), next(serial), Candidate(place)) for place in waiting]
    heapq.heapify(heap)
    while heap:
        least, _, candidate = heapq.heappop(heap)
        if found.beaten(least):
            found.looked.append(replace(candidate, at_least=least))
            continue
        if candidate.replica is None:
            candidate = fitted(ask, candidate.place)
            if candidate.refused:
                found.looked.append(candidate)
                continue
            heapq.heappush(heap, (max(least, least_cost(ask, candidate)), next(serial), candidate))
            continue
        sized = size(ask, found, candidate)
        found.looked.append(sized)
        if sized.sized and (found.best is None or preference(sized) < preference(found.best)):
            found.best = sized
    return found


def size(ask: Ask, found: Explored, candidate: Candidate, *, quick: bool = False) -> Candidate:
    """A candidate with its best token budget; the others are kept in what was found.

    Args:
        ask: the question.
        found: where the other budgets are kept.
        candidate: one that fits.
        quick: whether to try the first token budget only.
    """
    budgets = token_budgets(ask)[:1] if quick else token_budgets(ask)
    tried = [with_budget(ask, candidate, tokens) for tokens in budgets]
    usable = [other for other in tried if other.sized]
    if not usable:
        return tried[0]
    best = best_budget(usable)
    found.budgets[best] = tuple(other for other in usable if other is not best)
    return best


def best_budget(tried: Sequence[Candidate]) -> Candidate:
    """The smallest token budget whose load line is within the worthwhile gain of the best at the same cost."""
    cheapest = min(preference(candidate)[:2] for candidate in tried)
    equal = [candidate for candidate in tried if preference(candidate)[:2] == cheapest]
    most = max(candidate.rate for candidate in equal)
    good = [candidate for candidate in equal if candidate.rate >= most * (1 - WORTHWHILE_GAIN)]
    return min(good, key=lambda candidate: candidate.config.max_num_batched_tokens)
