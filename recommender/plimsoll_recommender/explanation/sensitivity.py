"""What would change the answer: the same question with more or less traffic, other objectives, other GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator, accelerator
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.recommendation import Recommendation
from plimsoll_recommender.traffic import Objectives

TRAFFIC_STEPS: Final = (-0.2, 0.2)
"""Changes of the expected traffic that are tried: what a week's forecast is commonly wrong by."""

OTHER_PRODUCTS: Final = ("NVIDIA-L40S", "NVIDIA-H100-80GB-HBM3", "NVIDIA-H200")
"""GPUs that are tried beside those allowed: one of each class that clouds commonly rent."""


@dataclass(frozen=True)
class Variation:
    """The answer to a changed question.

    Args:
        change: what was changed, in words.
        answer: the recommendation then; None when there is none.
        refused: why there is none; empty when there is one.
    """

    change: str
    answer: Recommendation | None
    refused: str = ""

    @property
    def why_none(self) -> str:
        """Why there is no answer, without the advice behind the last colon, which is about the question as asked."""
        return self.refused.rpartition(": ")[0] or self.refused


def variations(asked: Question, answer: Recommendation) -> Iterator[Variation]:
    """Answers to the neighbouring questions, one at a time (each takes as long as a recommendation).

    Args:
        asked: the question as it was.
        answer: its answer.
    """
    for change, question in _changed(asked, answer):
        try:
            found = question.answer()
        except RecommenderError as error:
            yield Variation(change, None, str(error))
        else:
            yield Variation(change, found)


def _changed(asked: Question, answer: Recommendation) -> Iterator[tuple[str, Question]]:
    workload, objectives = asked.workload, asked.objectives
    for step in TRAFFIC_STEPS:
        if workload.requests_per_second is not None:
            rate = workload.requests_per_second * (1 + step)
            yield (
                f"traffic {step:+.0%}: {rate:.3g} req/s",
                replace(asked, workload=replace(workload, requests_per_second=rate)),
            )
        elif workload.concurrency is not None:
            flight = workload.concurrency * (1 + step)
            yield (
                f"traffic {step:+.0%}: {flight:.3g} in flight",
                replace(asked, workload=replace(workload, concurrency=flight)),
            )
    for name in ("ttft", "tpot"):
        target = getattr(objectives, name)
        for word, factor in (("halved", 0.5), ("doubled", 2.0)):
            if target is not None:
                changed = _objectives(objectives, name, target * factor)
                if changed is not None:
                    text = f"{name.upper()} objective {word}: {_milliseconds(target * factor)}"
                    yield text, replace(asked, objectives=changed)
    for gpu in _others(asked, answer):
        yield f"only {gpu.product}", replace(asked, accelerators=(gpu,))


def _objectives(objectives: Objectives, name: str, target: float) -> Objectives | None:
    """The objectives with one changed; None when they then contradict each other."""
    try:
        return replace(objectives, **{name: target})
    except RecommenderError:
        return None


def _others(asked: Question, answer: Recommendation) -> Sequence[Accelerator]:
    """The GPUs that were allowed and not chosen, then common ones that were not allowed."""
    allowed = [gpu for gpu in asked.accelerators if gpu.product != answer.accelerator.product]
    named = {gpu.product for gpu in asked.accelerators}
    return [*allowed, *(accelerator(product) for product in OTHER_PRODUCTS if product not in named)]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms"
