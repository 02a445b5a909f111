"""The nearest other layouts: half and twice the tensor parallelism on the same GPU, to draw beside the chosen one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.explanation.headline import layout_text
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.curve import CurvePoint, latency_curve
from plimsoll_recommender.recommendation import Recommendation

POINTS: Final = 30
"""Points of a neighbour's curve: it is drawn thin."""


def neighbour_curves(question: Question, answer: Recommendation) -> Iterator[tuple[str, list[CurvePoint]]]:
    """(layout, latencies over the request rate) of the alternatives with half and twice the tensor parallelism."""
    size = answer.config.tensor_parallel_size
    facts = answer.facts or question.facts
    seen = set()
    for item in answer.alternatives:
        config = item.config
        if config is None or item.accelerator != answer.accelerator or item.variant != answer.variant:
            continue
        name = layout_text(config)
        near = config.tensor_parallel_size * 2 == size or config.tensor_parallel_size == 2 * size
        alike = config.pipeline_parallel_size == answer.config.pipeline_parallel_size
        if near and alike and name not in seen:
            seen.add(name)
            with suppress(RecommenderError):
                yield name, _curve(question, facts, answer.accelerator, config)


def _curve(question: Question, facts: ModelFacts, gpu: Accelerator, config: EngineConfig) -> list[CurvePoint]:
    workload, objectives = question.workload, question.objectives
    return latency_curve(facts, gpu, config, workload, objectives, corrections=question.corrections, points=POINTS)
