"""From samples to observations: what may be believed, and how series add up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_detector.features import Limits, Objectives, by_service, observe
from plimsoll_detector.observation import Observation, PodFacts, Problem
from plimsoll_detector.queries import REQUIRED, Per, Signal, query_table
from plimsoll_detector.reading import Reading, Sample

MakeReading = Callable[..., Reading]
MakePods = Callable[..., list[PodFacts]]
KEY = ("ml", "chat")


@pytest.fixture
def see(limits: Limits, objectives: Objectives) -> Callable[[Reading, list[PodFacts]], Observation]:
    """Observe the service of a reading."""
    return lambda reading, pods: observe(reading, by_service(reading).get(KEY), pods, objectives, limits)


See = Callable[[Reading, list[PodFacts]], Observation]


def test_healthy_replicas_add_up(reading: MakeReading, pods: MakePods, see: See) -> None:
    """Levels and rates are sums over the service."""
    seen = see(reading({"a": {Signal.RUNNING: 3.0}, "b": {Signal.RUNNING: 4.0}}), pods("a", "b"))
    assert seen.quality.usable
    assert (seen.running, seen.serving, seen.measured) == (7.0, 2, 2)


@pytest.mark.parametrize(
    ("change", "problem", "says"),
    [
        ({Signal.SCRAPED_AT: 1_800_000_000.0 - 300.0}, Problem.STALE, "300 s old"),
        ({Signal.RUNNING: math.nan}, Problem.NOT_A_NUMBER, "NaN or infinity from a"),
        ({Signal.GENERATION_TOKENS: math.inf}, Problem.NOT_A_NUMBER, "NaN or infinity from a"),
        (dict.fromkeys(Signal), Problem.NO_DATA, "no series of a"),
        ({**dict.fromkeys(Signal), Signal.UP: 0.0}, Problem.NO_DATA, "up is 0"),
        ({Signal.STARTED: None}, Problem.PARTIAL, "no started yet from a"),
    ],
    ids=["stale", "NaN", "infinity", "no series", "scrape fails", "one signal missing"],
)
def test_what_cannot_be_believed_is_said(
    change: dict[Signal, float | None], problem: Problem, says: str, reading: MakeReading, pods: MakePods, see: See
) -> None:
    """Each fault has its own name, and nothing is summed up for a service that has one."""
    seen = see(reading({"a": change}), pods("a"))
    assert seen.quality.problem is problem
    assert says in seen.quality.message
    assert (seen.arrivals, seen.running) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"unreachable": "http://p: connection refused"}, Problem.UNREACHABLE),
        ({"failures": {Signal.RUNNING: "HTTP 503"}}, Problem.QUERY_FAILED),
        ({"warnings": ("fetch failed: store down",)}, Problem.INCOMPLETE_ANSWER),
        ({"skew": -90.0}, Problem.CLOCK_SKEW),
    ],
)
def test_trouble_with_prometheus_itself_blinds_every_service(
    change: dict[str, object], problem: Problem, reading: MakeReading, pods: MakePods, see: See
) -> None:
    """Also a service whose replicas all have data."""
    assert see(replace(reading({"a": {}}), **change), pods("a")).quality.problem is problem


def test_one_replica_of_four_without_data_is_partial(reading: MakeReading, pods: MakePods, see: See) -> None:
    """The missing one may carry any load."""
    seen = see(reading({name: {} for name in "abc"}), pods("a", "b", "c", "d"))
    assert seen.quality.problem is Problem.PARTIAL
    assert seen.quality.coverage == 0.75
    assert seen.quality.missing == ("d",)


def test_a_large_fleet_bears_one_flaky_scrape(reading: MakeReading, pods: MakePods, see: See) -> None:
    """Twenty replicas, one without data: usable, but said."""
    names = [f"p{index}" for index in range(20)]
    seen = see(reading({name: {} for name in names[1:]}), pods(*names))
    assert seen.quality.usable
    assert seen.quality.missing == ("p0",)


def test_a_replica_that_has_just_become_ready_need_not_have_data(
    reading: MakeReading, pods: MakePods, see: See, now: float
) -> None:
    """Discovery and the first scrapes take a while; after that it must."""
    young = replace(pods("b")[0], ready_since=now - 30.0)
    assert see(reading({"a": {}}), [*pods("a"), young]).quality.usable
    assert not see(reading({"a": {}}), [*pods("a"), replace(young, ready_since=now - 200.0)]).quality.usable


def test_only_new_replicas_are_not_an_idle_service(reading: MakeReading, pods: MakePods, see: See, now: float) -> None:
    """Nothing measured is not nothing to do."""
    seen = see(reading({}), pods("a", ready_since=now - 10.0))
    assert (seen.serving, seen.measured) == (1, 0)


def test_rates_of_a_replica_gone_since_still_count(reading: MakeReading, pods: MakePods, see: See) -> None:
    """Its requests did arrive; what it runs is no longer there."""
    seen = see(reading({"a": {}, "gone": {Signal.STARTED: 5.0, Signal.RUNNING: 9.0}}), pods("a"))
    assert seen.started == 6.0
    assert seen.running == 1.0


def test_a_queue_that_grows_is_arrivals(reading: MakeReading, pods: MakePods, see: See) -> None:
    """Requests that arrive and are not served yet; and a queue that drains is not."""
    assert see(reading({"a": {Signal.WAITING_GROWTH: 4.0}}), pods("a")).arrivals == 5.0
    assert see(reading({"a": {Signal.WAITING_GROWTH: -4.0}}), pods("a")).arrivals == 0.0


@given(parts=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=6))
def test_how_many_series_carry_a_signal_does_not_matter(parts: list[float]) -> None:
    """One series per engine, or one per pod: the same observation."""
    limits, objectives = Limits(60.0, 120.0), Objectives(0.95, {"ttft": 2.0})
    labels = {"namespace": "ml", "llmservice": "chat", "pod": "a"}
    additive = [query.signal for query in query_table(60.0) if query.per is Per.POD and query.signal in REQUIRED]
    scraped = {Signal.SCRAPED_AT: (Sample(labels, 995.0, 1000.0),)}
    split = {signal: tuple(Sample(labels, part, 1000.0) for part in parts) for signal in additive}
    whole = {signal: (Sample(labels, sum(parts), 1000.0),) for signal in additive}
    seen = [
        observe(reading, by_service(reading)[KEY], [PodFacts("a", ready=True)], objectives, limits)
        for reading in (Reading(1000.0, 0.0, {**scraped, **split}), Reading(1000.0, 0.0, {**scraped, **whole}))
    ]
    assert seen[0].arrivals == pytest.approx(seen[1].arrivals)
    assert seen[0].generation_tokens == pytest.approx(seen[1].generation_tokens)
    assert seen[0].waiting == pytest.approx(seen[1].waiting)


def test_latencies_are_held_against_the_objectives(pods: MakePods, reading: MakeReading, see: See, now: float) -> None:
    """Percentile, target and attainment; the joint attainment claims no more than the marginals allow."""

    def edges(*pairs: tuple[str, float]) -> tuple[Sample, ...]:
        return tuple(Sample({"namespace": "ml", "llmservice": "chat", "le": edge}, value, now) for edge, value in pairs)

    base = reading({"a": {}})
    answers = {
        **base.answers,
        Signal.TTFT_BUCKETS: edges(("1", 0.5), ("2.5", 1.0), ("+Inf", 1.0)),
        Signal.TPOT_BUCKETS: edges(("0.1", 0.9), ("+Inf", 1.0)),
    }
    seen = see(replace(base, answers=answers), pods("a"))
    assert seen.latencies["ttft"].value == pytest.approx(2.35)
    assert seen.latencies["ttft"].missed
    assert seen.latencies["ttft"].attainment == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert seen.attainment == pytest.approx(seen.latencies["ttft"].attainment - 0.1)
    assert seen.requests == pytest.approx(60.0)
