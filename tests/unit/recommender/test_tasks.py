"""Tasks of observed requests: what they cover, what they do not depend on, and when there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import (
    EngineConfig,
    ModelFacts,
    ObservedRequest,
    RecommenderError,
    TaskModel,
    Workload,
    accelerator,
    task_clusters,
)
from plimsoll_recommender.tasks.clusters import least_requests

Lengths = list[ObservedRequest]


def two_tasks(count: int, seed: int = 1, longer: float = 1.0) -> Lengths:
    """Questions with long answers beside code completions: long prompts, a few tokens out."""
    random = np.random.default_rng(seed)
    chat = [random.lognormal(np.log(400), 0.4, count), random.lognormal(np.log(300 * longer), 0.3, count)]
    code = [random.lognormal(np.log(4000), 0.3, count), random.lognormal(np.log(15 * longer), 0.3, count)]
    drawn = np.concatenate([np.array(chat).T, np.array(code).T])
    return [ObservedRequest(int(prompt), int(output)) for prompt, output in drawn]


BOTH = two_tasks(600)


@pytest.fixture(scope="module")
def found() -> TaskModel:
    return task_clusters(BOTH, quantile=0.95)


def test_two_tasks_are_told_apart(found: TaskModel) -> None:
    assert found.reason == ""
    assert len(found.tasks) == 2
    chat, code = sorted(found.tasks, key=lambda task: task.input_tokens)
    assert chat.share == pytest.approx(0.5, abs=0.02)
    assert 400 < chat.max_tokens < 600
    assert 18 < code.max_tokens < 35
    assert sum(task.share for task in found.tasks) == pytest.approx(1)


def test_a_new_request_gets_the_max_tokens_of_its_task(found: TaskModel) -> None:
    short, long = found.assign(300), found.assign(5000)
    assert max(short.probabilities) > 0.99
    assert short.max_tokens > 400
    assert long.max_tokens < 40
    assert long.reserved_tokens == 5000 + long.max_tokens


def test_less_is_reserved_than_with_one_limit(found: TaskModel) -> None:
    inputs = np.array([item.input_tokens for item in BOTH])
    assert found.max_tokens(inputs).mean() < 0.65 * found.whole.max_tokens


def test_the_kv_cache_of_a_task_is_in_proportion_to_its_tokens(found: TaskModel) -> None:
    facts, gpu = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct"), accelerator("H100")
    for task in found.tasks:
        gib = task.reserved_gib(facts, gpu, EngineConfig())
        # 32 layers x 8 KV heads x 128 x 2 (K, V) x 2 bytes, in blocks of 16 tokens.
        assert gib == pytest.approx(task.reserved_tokens * 131_072 / 1024**3, abs=16 * 131_072 / 1024**3)


def test_the_workload_has_the_moments_of_all_requests(found: TaskModel) -> None:
    workload = found.workload()
    assert workload.input_tokens == pytest.approx(np.mean([item.input_tokens for item in BOTH]))
    assert workload.output_tokens == pytest.approx(np.mean([item.output_tokens for item in BOTH]))
    assert workload.output_p95 == sorted(item.output_tokens for item in BOTH)[round(0.95 * len(BOTH)) - 1]


def test_the_declared_rate_stays() -> None:
    declared = Workload(10, 10, requests_per_second=7, prefix_hit_ratio=0.3)
    workload = task_clusters(BOTH, declared=declared, quantile=0.95).workload()
    assert (workload.requests_per_second, workload.prefix_hit_ratio) == (7, 0.3)


@pytest.mark.parametrize(("quantile", "least"), [(0.5, 100), (0.9, 100), (0.95, 200), (0.99, 1000)])
def test_too_few_requests_fall_back_to_the_declared_workload(quantile: float, least: int) -> None:
    declared = Workload(1000, 250)
    assert least_requests(quantile) == least
    model = task_clusters(BOTH[: least - 1], declared=declared, quantile=quantile)
    assert model.reason == (
        f"{least - 1} requests were observed, {least} are needed for the {quantile:.4g} quantile: "
        "the declared workload is used"
    )
    assert model.workload() is declared
    assert model.assign(123).max_tokens == model.tasks[0].max_tokens


def test_the_declared_quantile_is_that_of_its_p95() -> None:
    model = task_clusters([], declared=Workload(1000, 250, output_tokens_p95=600), quantile=0.95)
    assert model.tasks[0].max_tokens == 600


def test_lengths_without_structure_are_one_task() -> None:
    random = np.random.default_rng(3)
    drawn = np.exp(random.normal([6, 5], 0.5, (800, 2))).astype(int)
    model = task_clusters([ObservedRequest(int(a), int(b)) for a, b in drawn], quantile=0.95)
    assert len(model.tasks) == 1
    assert "one task" in model.reason


def test_constants_duplicates_and_zeros_are_tasks_too() -> None:
    same = [ObservedRequest(128, 0)] * 300
    assert task_clusters(same, quantile=0.95).assign(128).max_tokens == 1
    two = same + [ObservedRequest(4096, 512)] * 300
    model = task_clusters(two, quantile=0.95)
    assert (model.assign(128).max_tokens, model.assign(4096).max_tokens) == (1, 512)


def test_more_of_the_same_law_changes_little(found: TaskModel) -> None:
    more = task_clusters(two_tasks(3000, seed=9), quantile=0.95)
    assert len(more.tasks) == len(found.tasks)
    for prompt in (250, 400, 3000, 5000):
        assert more.assign(prompt).max_tokens == pytest.approx(found.assign(prompt).max_tokens, rel=0.15)


def test_what_was_missed_is_made_up_for(found: TaskModel) -> None:
    longer = two_tasks(600, seed=5, longer=1.3)
    missed = 0.95 - found.coverage(longer)
    assert missed > 0.05
    after = task_clusters(longer, quantile=0.95, previous=found)
    assert after.target > found.target
    assert after.coverage(two_tasks(600, seed=6, longer=1.3)) > 0.95


@pytest.mark.parametrize("quantile", [0.0, 0.49, 1.0, float("nan")])
def test_a_quantile_out_of_range_is_refused(quantile: float) -> None:
    with pytest.raises(RecommenderError, match=r"quantile must be at least 0\.5 and below 1"):
        task_clusters(BOTH, quantile=quantile)


@pytest.mark.parametrize("bad", [-1, 1.5, True, "7"])
def test_a_length_that_is_none_is_refused(bad: object) -> None:
    with pytest.raises(RecommenderError, match="output_tokens of a request must be a whole number"):
        ObservedRequest(1, bad)  # type: ignore[arg-type]


def test_a_negative_prompt_is_refused(found: TaskModel) -> None:
    with pytest.raises(RecommenderError, match="at least 0"):
        found.assign(-1)


lengths = st.one_of(
    st.integers(0, 20),
    st.integers(0, 4000),
    # Heavy tails.
    st.floats(0.001, 1).map(lambda share: int(10 / share)),
)
traffic = st.lists(st.builds(ObservedRequest, lengths, lengths), min_size=100, max_size=160)


@settings(max_examples=15, deadline=None)
@given(traffic, st.sampled_from([0.5, 0.8, 0.9]))
def test_the_quantile_is_covered_on_what_was_observed(seen: Lengths, quantile: float) -> None:
    model = task_clusters(seen, quantile=quantile, most_tasks=4)
    assert model.coverage(seen) >= quantile
    assert all(task.max_tokens >= 1 for task in model.tasks)


@settings(max_examples=8, deadline=None)
@given(traffic, st.randoms(use_true_random=False))
def test_the_order_of_requests_does_not_matter(seen: Lengths, random: object) -> None:
    shuffled = list(seen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (task_clusters(items, quantile=0.9, most_tasks=4) for items in (seen, shuffled))
    assert one.tasks == other.tasks
    inputs = np.array([0, 7, 100, 3000, 100_000])
    assert list(one.max_tokens(inputs)) == list(other.max_tokens(inputs))
