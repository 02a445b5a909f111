"""All that a recommendation is computed from, in one value that can be asked again with a part changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.recommendation import Limits, Recommendation
from plimsoll_recommender.search.recommend import recommend
from plimsoll_recommender.traffic import Objectives, Workload

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections


@dataclass(frozen=True)
class Question:
    """The arguments of `recommend`."""

    facts: ModelFacts
    accelerators: tuple[Accelerator, ...]
    workload: Workload
    objectives: Objectives
    limits: Limits
    corrections: Corrections | None = None

    def answer(self) -> Recommendation:
        """The recommendation.

        Raises:
            InfeasibleError: nothing fits, or no candidate meets the objectives even when idle.
        """
        return recommend(
            self.facts, self.accelerators, self.workload, self.objectives, self.limits, corrections=self.corrections
        )
