"""The nearest other answers: half and twice the tensor parallelism on the same GPU, and what users would see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.explanation.headline import fleet_text
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.latency.predict import predict
from plimsoll_recommender.prediction import Prediction
from plimsoll_recommender.recommendation import Recommendation


@dataclass(frozen=True)
class Neighbour:
    """Another fleet that meets the objectives.

    Args:
        name: accelerator, parallelism and replicas in one line.
        answer: all of it.
        expected: what its users would see under the expected load, spread evenly over its replicas.
    """

    name: str
    answer: Recommendation
    expected: Prediction


def as_neighbour(question: Question, answer: Recommendation) -> Neighbour:
    """A recommendation with what its users would see under the expected load."""
    return Neighbour(fleet_text(answer), answer, expected_prediction(question, answer))


def split_neighbours(question: Question, answer: Recommendation) -> Iterator[Neighbour]:
    """The same GPU with half and twice the tensor parallelism, where that can be."""
    size = answer.config.tensor_parallel_size
    for tensor in (size // 2, size * 2):
        if tensor < 1 or question.facts.num_attention_heads % tensor:
            continue
        limits = replace(question.limits, tensor_parallel_size=tensor)
        asked = replace(question, accelerators=(answer.accelerator,), limits=limits)
        try:
            yield as_neighbour(question, asked.answer())
        except RecommenderError:
            continue


def expected_prediction(question: Question, answer: Recommendation) -> Prediction:
    """One replica under its part of the expected load; at its load line when no load was stated."""
    workload = question.workload
    if workload.requests_per_second is not None:
        share = replace(workload, requests_per_second=workload.requests_per_second / answer.replicas)
    elif workload.concurrency is not None:
        share = replace(workload, concurrency=workload.concurrency / answer.replicas)
    else:
        return answer.predicted
    return predict(question.facts, answer.accelerator, answer.config, share, question.objectives)
