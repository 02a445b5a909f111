"""The histogram: within 1 % of the exact percentile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.load.histogram import FLOOR_SECONDS, Histogram


@given(st.lists(st.floats(2e-5, 5e3), min_size=1, max_size=200), st.sampled_from([1, 50, 90, 99, 100]))
def test_percentiles_are_within_their_precision(values: list[float], percent: int) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.0101)
    assert histogram.mean == pytest.approx(np.mean(values))
    assert histogram.count == len(values)
    assert histogram.occupied()[1].sum() == len(values)


def test_nothing_recorded_has_no_figures() -> None:
    histogram = Histogram()
    assert histogram.percentile(50) is None
    assert histogram.mean is None
    assert len(histogram.occupied()[0]) == 0


def test_the_shortest_and_the_longest_find_a_bucket() -> None:
    histogram = Histogram()
    for value in (-1.0, 0.0, FLOOR_SECONDS, 1e9):
        histogram.record(value)
    assert histogram.percentile(50) == 0
    assert histogram.count == 4
