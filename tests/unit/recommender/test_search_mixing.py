"""Fleets of several kinds of accelerator, held against trying every fleet."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import Limits, ModelFacts, Objectives, Recommendation, Workload, accelerator, recommend
from plimsoll_recommender.search.ask import asked
from plimsoll_recommender.search.candidates import fitted, token_budgets, with_budget
from plimsoll_recommender.search.covering import Bounds, Column, TooManyBranchesError, cheapest_cover
from plimsoll_recommender.search.explore import Explored, places, size
from plimsoll_recommender.search.mixing import by_program, cheapest_mix
from plimsoll_recommender.search.outlook import carries_at_most
from plimsoll_recommender.search.physics import datasheet_bound

LLAMA = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
NAMES = ("H100", "A100", "L4")
GPUS = [accelerator(name) for name in NAMES]
OBJECTIVES = Objectives(ttft=2.0, tpot=0.05)
KINDS = 3

columns = st.lists(
    st.builds(
        Column,
        kind=st.integers(0, KINDS - 1),
        gpus=st.sampled_from([1, 2, 4]),
        cost=st.integers(30, 900).map(lambda cents: cents / 100),
        carries=st.integers(5, 60).map(lambda tenths: tenths / 10),
        most=st.integers(1, 4),
    ),
    min_size=1,
    max_size=4,
)
bounds = st.builds(
    Bounds,
    demand=st.integers(10, 200).map(lambda tenths: tenths / 10),
    kinds=st.integers(1, KINDS),
    gpus_of_kind=st.tuples(*[st.sampled_from([math.inf, 1.0, 4.0, 8.0])] * KINDS),
    fewest=st.integers(1, 2),
    most=st.sampled_from([math.inf, 2.0, 5.0]),
    budget=st.sampled_from([math.inf, 6.0, 25.0]),
)


def every_fleet(asked: list[Column], limit: Bounds) -> list[tuple[float, float, int]]:
    """(carried, cost, GPUs) of every fleet within the limits."""
    found = []
    for counts in itertools.product(*(range(column.most + 1) for column in asked)):
        used = [(column, count) for column, count in zip(asked, counts, strict=True) if count]
        cost = math.fsum(column.cost * count for column, count in used)
        gpus = [sum(c.gpus * n for c, n in used if c.kind == kind) for kind in range(KINDS)]
        allowed = (
            limit.fewest <= sum(counts) <= limit.most
            and len({column.kind for column, _ in used}) <= limit.kinds
            and cost <= limit.budget + 1e-9
            and all(number <= most for number, most in zip(gpus, limit.gpus_of_kind, strict=True))
        )
        if allowed:
            found.append((math.fsum(c.carries * n for c, n in used), cost, sum(gpus)))
    return found


@given(asked=columns, limit=bounds)
@settings(max_examples=60, deadline=None)
def test_the_program_finds_what_trying_every_fleet_finds(asked: list[Column], limit: Bounds) -> None:
    fleets = every_fleet(asked, limit)
    counts = cheapest_mix(asked, limit)
    if not fleets:
        assert counts is None
        return
    assert counts is not None
    carried = math.fsum(c.carries * n for c, n in zip(asked, counts, strict=True))
    cost = math.fsum(c.cost * n for c, n in zip(asked, counts, strict=True))
    gpus = sum(c.gpus * n for c, n in zip(asked, counts, strict=True))
    enough = [fleet for fleet in fleets if fleet[0] >= limit.demand * (1 - 1e-9)]
    if enough:
        assert carried >= limit.demand * (1 - 1e-6)
        assert (round(cost, 6), gpus) == min((round(c, 6), g) for _, c, g in enough)
    else:
        assert carried == pytest.approx(max(fleet[0] for fleet in fleets))
    assert cheapest_mix(asked, limit) == counts


many = st.lists(
    st.builds(
        Column,
        kind=st.integers(0, 5),
        gpus=st.sampled_from([1, 2, 4, 8]),
        cost=st.integers(30, 4000).map(lambda cents: cents / 100),
        carries=st.integers(50, 6000).map(lambda hundredths: hundredths / 1000),
        most=st.sampled_from([2, 10**6]),
    ),
    max_size=14,
)
wide = st.builds(
    Bounds,
    demand=st.integers(10, 300).map(lambda tenths: tenths / 10),
    kinds=st.integers(1, 3),
    gpus_of_kind=st.tuples(*[st.sampled_from([math.inf, 4.0, 16.0])] * 6),
    fewest=st.integers(1, 3),
    most=st.sampled_from([math.inf, 6.0, 12.0]),
    budget=st.sampled_from([math.inf, 30.0]),
)


@given(asked=many, limit=wide)
@settings(max_examples=60, deadline=None)
def test_branch_and_bound_finds_what_the_integer_program_finds(asked: list[Column], limit: Bounds) -> None:
    try:
        cover = cheapest_cover(asked, limit)
    except TooManyBranchesError:
        return
    program = by_program(asked, limit)
    assert (cover is None) == (program is None)
    if cover is not None and program is not None:
        assert judged(asked, cover) == judged(asked, program)
        assert math.fsum(c.carries * n for c, n in zip(asked, cover, strict=True)) >= limit.demand * (1 - 1e-6)


def judged(asked: list[Column], fleet: tuple[int, ...]) -> tuple[float, int]:
    """(cost, GPUs) of a fleet."""
    used = list(zip(asked, fleet, strict=True))
    return round(math.fsum(c.cost * n for c, n in used), 6), sum(c.gpus * n for c, n in used)


def test_a_question_with_too_many_branches_goes_to_the_integer_program() -> None:
    # Forty kinds whose rates differ by less than what their last replicas waste.
    asked = [Column(kind, 1, 1.0 + kind * 1e-4, 1.0 - kind * 1e-3, 10**6) for kind in range(40)]
    limit = Bounds(20.5, 40, (math.inf,) * 40)
    with pytest.raises(TooManyBranchesError):
        cheapest_cover(asked, limit, branches=50)
    found = cheapest_mix(asked, limit)
    assert found is not None
    assert judged(asked, found)[1] == 21
    assert judged(asked, found) == judged(asked, by_program(asked, limit) or ())


def mix(rate: float, caps: dict[str, int], *, kinds: int = 2, budget: float | None = None) -> Recommendation:
    """The recommendation where accelerators may be mixed."""
    limits = Limits(mix_accelerators=True, max_kinds=kinds, max_gpus=caps, budget_per_hour=budget)
    return recommend(LLAMA, GPUS, Workload(1200, 250, requests_per_second=rate), OBJECTIVES, limits)


def test_a_mix_answers_where_one_kind_is_capped_short_of_the_demand() -> None:
    caps = {"H100": 1, "A100": 4, "L4": 1}
    most_of_two = math.fsum(member.load_line_rps * member.replicas for member in mix(500.0, caps).fleet)
    rate = round(0.8 * 0.95 * most_of_two, 1)
    alone = recommend(LLAMA, GPUS, Workload(1200, 250, requests_per_second=rate), OBJECTIVES, Limits(max_gpus=caps))
    assert alone.confidence == "Low"
    assert "a mix is not allowed" in alone.confidence_why
    found = mix(rate, caps)
    assert len(found.fleet) == 2
    assert math.fsum(member.load_line_rps * member.replicas for member in found.fleet) * 0.8 >= rate * (1 - 1e-6)
    assert math.fsum(member.weight for member in found.fleet) == pytest.approx(1.0)
    for member in found.fleet:
        most = next(caps[name] for name in NAMES if accelerator(name) == member.accelerator)
        assert member.gpus <= most
        # Routed by weight, no member is above its load line.
        assert rate * member.weight <= member.load_line_rps * member.replicas * 0.8 * (1 + 1e-6)
        assert member.predicted.tpot.at(95) <= 0.05 * 1.005
    assert found.cost.per_hour == pytest.approx(sum(member.hourly_cost for member in found.fleet))
    assert found.cost.gpus == sum(member.gpus for member in found.fleet)
    assert found.reasons[0].field == "fleet"
    assert "one kind alone" in found.alternatives[0].rejected_because
    assert mix(rate, caps) == found


def test_one_kind_is_kept_where_a_mix_is_no_cheaper() -> None:
    found = mix(4.0, {})
    assert len(found.fleet) == 1
    alone = recommend(LLAMA, GPUS, Workload(1200, 250, requests_per_second=4.0), OBJECTIVES)
    assert found.cost.per_hour <= alone.cost.per_hour


@pytest.mark.parametrize("rate", [3.0, 14.0, 33.0])
def test_a_mix_is_never_costlier_than_one_kind(rate: float) -> None:
    alone = recommend(LLAMA, GPUS, Workload(1200, 250, requests_per_second=rate), OBJECTIVES)
    assert mix(rate, {}, kinds=3).cost.per_hour <= alone.cost.per_hour + 1e-6


@pytest.mark.parametrize("rate", [18.0, 41.0, 67.0])
def test_no_pair_of_kinds_is_cheaper_than_the_mix(rate: float) -> None:
    limits = Limits(mix_accelerators=True, tensor_parallel_size=1, pipeline_parallel_size=1)
    workload = Workload(1200, 250, requests_per_second=rate)
    kinds = [accelerator(name) for name in ("H100", "A100", "L40S")]
    found = recommend(LLAMA, kinds, workload, OBJECTIVES, limits)
    ask = asked(LLAMA, kinds, workload, OBJECTIVES, limits, None)
    ways = []
    for place in places(ask)[0]:
        tried = [with_budget(ask, fitted(ask, place), tokens) for tokens in token_budgets(ask)]
        each = max(candidate.rate for candidate in tried if candidate.sized) * 0.8
        ways.append((ask.price(place.gpu), each, range(math.ceil(rate / each) + 1)))
    fleets = itertools.product(*(most for _, _, most in ways))
    costs = [
        math.fsum(price * count for (price, _, _), count in zip(ways, counts, strict=True))
        for counts in fleets
        if sum(count > 0 for count in counts) <= limits.max_kinds
        and math.fsum(each * count for (_, each, _), count in zip(ways, counts, strict=True)) >= rate
    ]
    assert found.cost.per_hour == pytest.approx(min(costs), rel=0.02)


def test_limits_that_no_mix_can_carry_are_said() -> None:
    found = mix(500.0, {"H100": 1, "A100": 1, "L4": 2}, kinds=3)
    assert found.confidence == "Low"
    assert "%" in found.confidence_why
    assert len(found.fleet) == 3
    poor = mix(500.0, {}, budget=5.0)
    assert poor.cost.per_hour <= 5.0


@pytest.mark.parametrize("rate", [3.0, 20.0, 90.0])
@pytest.mark.parametrize("objectives", [OBJECTIVES, Objectives(ttft=1.0)], ids=["both", "ttft"])
def test_bounds_lose_no_mix_that_sizing_every_place_finds(rate: float, objectives: Objectives) -> None:
    limits = Limits(mix_accelerators=True)
    workload = Workload(1200, 250, requests_per_second=rate)
    found = recommend(LLAMA, GPUS, workload, objectives, limits)
    ask = asked(LLAMA, GPUS, workload, objectives, limits, None)
    seen, every = Explored(), []
    for place in places(ask)[0]:
        candidate = fitted(ask, place)
        if not candidate.refused and (one := size(ask, seen, candidate)).sized:
            every.append(one)
    columns = [
        Column(
            kind=GPUS.index(one.gpu),
            gpus=one.shape.gpus,
            cost=one.shape.gpus * one.gpu.hourly_cost,
            carries=one.rate * (1 - limits.headroom),
            most=10**6,
        )
        for one in every
    ]
    counts = cheapest_mix(columns, Bounds(rate, limits.max_kinds, (math.inf,) * len(GPUS)))
    assert counts is not None
    cheapest = math.fsum(column.cost * count for column, count in zip(columns, counts, strict=True))
    assert found.cost.per_hour == pytest.approx(cheapest, abs=1e-6)


def test_what_a_place_carries_never_exceeds_its_bounds() -> None:
    ask = asked(LLAMA, GPUS, Workload(1200, 250, requests_per_second=20.0), OBJECTIVES, Limits(), None)
    compared = 0
    for place in places(ask)[0]:
        candidate = fitted(ask, place)
        if candidate.refused:
            continue
        sized = size(ask, Explored(), candidate)
        if sized.sized:
            compared += 1
            assert sized.rate <= carries_at_most(ask, candidate)[0] * (1 + 1e-6)
            assert sized.rate <= datasheet_bound(ask, place)[0]
    assert compared > 10
