"""What an answer is explained with agrees with the answer."""

from __future__ import annotations

import pytest

from plimsoll_recommender import (
    EngineConfig,
    Limits,
    ModelFacts,
    Objectives,
    RecommenderError,
    Workload,
    accelerator,
    memory_ledger,
    predict,
)
from plimsoll_recommender.explanation.headline import binding_text, fleet_text, headline, nearest_objective
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.explanation.ranks import ranks_of
from plimsoll_recommender.explanation.sensitivity import variations
from plimsoll_recommender.latency.curve import latency_curve
from plimsoll_recommender.memory.defaults import resolve

FACTS = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
H100, L4 = accelerator("H100"), accelerator("L4")


def question(**objectives: float) -> Question:
    return Question(FACTS, (H100, L4), Workload(requests_per_second=8), Objectives(**objectives), Limits())


def test_the_headline_has_what_to_run_what_it_carries_what_it_costs_and_what_binds() -> None:
    asked = question(ttft=0.8, tpot=0.06)
    answer = asked.answer()
    text = headline(answer, asked.workload, asked.objectives)
    assert fleet_text(answer) in text
    assert f"{answer.cost.per_hour:.2f} per hour" in text
    assert "where 8 are expected" in text
    assert "binds" in text


def test_the_objective_that_binds_is_the_one_that_is_used_up() -> None:
    asked = question(ttft=9.0, tpot=0.03)
    nearest = nearest_objective(asked.answer().predicted, asked.objectives)
    assert nearest is not None
    assert nearest.name == "TPOT"
    assert nearest.share == pytest.approx(1, abs=0.03)


def test_without_objectives_the_engine_binds() -> None:
    asked = question()
    predicted = asked.answer().predicted
    assert nearest_objective(predicted, asked.objectives) is None
    assert f"so {predicted.bound} sets the load line" in binding_text(predicted, asked.objectives)


def test_a_curve_passes_through_the_load_line() -> None:
    asked = question(tpot=0.05)
    answer = asked.answer()
    curve = latency_curve(FACTS, answer.accelerator, answer.config, asked.workload, asked.objectives, points=200)
    nearest = min(curve, key=lambda point: abs(point.rate - answer.load_line_rps))
    assert nearest.tpot.value == pytest.approx(answer.predicted.tpot.p95, rel=0.05)
    assert all(point.tpot.low < point.tpot.value < point.tpot.high for point in curve)
    assert [point.rate for point in curve] == sorted(point.rate for point in curve)


def test_a_curve_of_data_parallel_ranks_is_of_all_of_them() -> None:
    workload, objectives = Workload(requests_per_second=2), Objectives(tpot=0.05)
    one = latency_curve(FACTS, H100, EngineConfig(), workload, objectives, points=5)
    two = latency_curve(FACTS, H100, EngineConfig(data_parallel_size=2), workload, objectives, points=5)
    assert [point.rate for point in two] == pytest.approx([2 * point.rate for point in one])
    line = predict(FACTS, H100, EngineConfig(data_parallel_size=2), workload, objectives).load_line_rps
    assert line <= two[-1].rate * 1.001


def test_changed_questions_are_answered_with_what_changed() -> None:
    asked = question(ttft=0.8, tpot=0.06)
    answer = asked.answer()
    found = {variation.change: variation.answer for variation in variations(asked, answer)}
    assert {"traffic -20%: 6.4 req/s", "traffic +20%: 9.6 req/s"} <= set(found)
    more, less = found["traffic +20%: 9.6 req/s"], found["traffic -20%: 6.4 req/s"]
    assert more is not None
    assert less is not None
    assert less.cost.per_hour <= answer.cost.per_hour <= more.cost.per_hour
    relaxed = found["TPOT objective doubled: 120 ms"]
    assert relaxed is not None
    assert relaxed.cost.per_hour <= answer.cost.per_hour


def test_a_question_without_an_answer_says_why() -> None:
    asked = question(tpot=0.006)
    try:
        answer = asked.answer()
    except RecommenderError:
        asked = question(tpot=0.01)
        answer = asked.answer()
    refused = [variation for variation in variations(asked, answer) if variation.answer is None]
    assert refused
    assert all(variation.refused for variation in refused)


@pytest.mark.parametrize("ranks", [1, 2])
def test_every_gpu_of_a_replica_is_named_once(ranks: int) -> None:
    config = resolve(
        EngineConfig(tensor_parallel_size=2, pipeline_parallel_size=4, data_parallel_size=ranks), FACTS, H100
    )
    named = [rank.name.partition(",")[0] for rank in ranks_of(FACTS, config, memory_ledger(FACTS, H100, config))]
    ends = [tuple(map(int, name.removeprefix("GPUs ").split("-"))) for name in named]
    gpus = [gpu for first, last in ends for gpu in range(first, last + 1)]
    assert gpus == list(range(config.gpus))
