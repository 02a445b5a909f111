"""The recommendation: the cheapest fleet that meets the objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.errors import InfeasibleError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.recommendation import Limits, Recommendation
from plimsoll_recommender.search.answer import answer, why_none
from plimsoll_recommender.search.ask import Ask, asked
from plimsoll_recommender.search.explore import Explored, explore
from plimsoll_recommender.search.fleets import mixed
from plimsoll_recommender.traffic import Objectives, Workload

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections


def recommend(
    facts: ModelFacts,
    accelerators: Sequence[Accelerator],
    workload: Workload,
    objectives: Objectives | None = None,
    limits: Limits | None = None,
    *,
    corrections: Corrections | None = None,
) -> Recommendation:
    """The cheapest fleet that meets the objectives, and why.

    It is of one kind of accelerator unless the limits allow a mix. Ties go to fewer GPUs, then to the model as it is,
    then to less tensor parallelism.

    Args:
        facts: the model.
        accelerators: the kinds that may be used.
        workload: expected traffic of the whole service. Without a rate or concurrency one replica is sized.
        objectives: what must hold at the percentile; None asks nothing.
        limits: what may not change or be exceeded.
        corrections: what was observed of running engines; None predicts without.

    Raises:
        InfeasibleError: nothing fits, or no candidate meets the objectives even when idle.
        RecommenderError: no accelerators given, or limits that name what is not known.
    """
    ask = asked(facts, accelerators, workload, objectives, limits, corrections)
    found = explore(ask)
    members = mixed(ask, found)
    if found.best is None and not members:
        raise InfeasibleError(_refusal(ask, found))
    return answer(ask, found, members)


def _refusal(ask: Ask, found: Explored) -> str:
    """Why there is no recommendation; where only the budget forbids all, with the cheapest fleet that would do."""
    if ask.limits.budget_per_hour is not None:
        richer = explore(replace(ask, limits=replace(ask.limits, budget_per_hour=None))).best
        if richer is not None:
            return (
                f"budget_per_hour {ask.limits.budget_per_hour:g} buys no replica of {ask.facts.name}: the cheapest "
                f"that would do is {richer.replicas} x {richer.name} at {richer.hourly_cost:.2f}/h: raise it or relax "
                "the objectives"
            )
    return why_none(ask, found.looked)
