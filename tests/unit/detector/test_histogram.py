"""Percentiles and shares from buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_detector.histogram import Buckets, buckets, quantile, share_below

INF = math.inf
histograms = st.lists(st.floats(0.0, 100.0), min_size=4, max_size=4).map(
    lambda parts: buckets([(edge, sum(parts[: index + 1])) for index, edge in enumerate((0.1, 0.5, 2.0, INF))])
)


def test_a_quantile_lies_where_linear_interpolation_says() -> None:
    """Half of ten observations between 0.5 and 1.0: the median is the middle."""
    observed = Buckets((0.5, 1.0, INF), (0.0, 10.0, 10.0))
    assert quantile(observed, 0.5) == pytest.approx(0.75)
    assert share_below(observed, 0.75) == pytest.approx(0.5)


def test_beyond_the_last_edge_is_that_edge() -> None:
    """The histogram knows no more, and what is beyond does not count as within a target."""
    observed = Buckets((1.0, INF), (5.0, 10.0))
    assert quantile(observed, 0.95) == 1.0
    assert share_below(observed, 100.0) == 0.5


@pytest.mark.parametrize(
    "pairs",
    [[], [(1.0, 3.0)], [(1.0, 0.0), (INF, 0.0)], [(1.0, math.nan), (INF, 2.0)]],
    ids=["empty", "no infinite edge", "nothing observed", "not a number"],
)
def test_no_histogram_where_there_is_none(pairs: list[tuple[float, float]]) -> None:
    """An idle service has no percentile, rather than one of 0."""
    assert buckets(pairs) is None


def test_buckets_of_several_replicas_add_up() -> None:
    """Each edge's counts are summed before anything is interpolated."""
    assert buckets([(INF, 2.0), (1.0, 1.0), (1.0, 2.0), (INF, 3.0)]) == Buckets((1.0, INF), (3.0, 5.0))


@given(histograms, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_quantiles_grow_and_agree_with_shares(observed: Buckets | None, low: float, high: float) -> None:
    """A higher percentile is not lower, and at least that share lies below it unless it is beyond the last edge."""
    if observed is None:
        return
    low, high = min(low, high), max(low, high)
    assert quantile(observed, low) <= quantile(observed, high) + 1e-9
    value = quantile(observed, high)
    if value < observed.edges[-2]:
        assert share_below(observed, value) >= high - 1e-6
