"""Length distributions: their figures, their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_simulator.traffic import MAX_P95_OVER_MEAN, Fixed, Lognormal, Quantiles


@pytest.mark.parametrize(("mean", "p95"), [(1200, 4000), (250, 700), (1000, 1000), (1000, 3800)])
def test_a_lognormal_has_its_mean_and_p95(mean: float, p95: float) -> None:
    drawn = Lognormal(mean, p95).sample(400_000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(mean, rel=0.03)
    assert np.percentile(drawn, 95) == pytest.approx(p95, rel=0.03)


def test_a_maximum_is_kept() -> None:
    assert Lognormal(1200, 4000, maximum=2048).sample(10_000, np.random.default_rng(1)).max() == 2048


@given(st.floats(1, 1e5), st.floats(1, MAX_P95_OVER_MEAN - 1e-9), st.integers(0, 2**32))
def test_every_length_is_a_token_or_more(mean: float, ratio: float, seed: int) -> None:
    drawn = Lognormal(mean, mean * ratio).sample(50, np.random.default_rng(seed))
    assert (drawn >= 1).all()


def test_quantiles_are_met() -> None:
    table = Quantiles((0, 0.5, 0.9, 1), (1, 100, 1000, 5000))
    drawn = table.sample(200_000, np.random.default_rng(1))
    assert np.percentile(drawn, [50, 90]) == pytest.approx([100, 1000], rel=0.02)
    assert drawn.mean() == pytest.approx(table.mean, rel=0.01)
    assert drawn.min() >= 1
    assert drawn.max() <= 5000


def test_fixed_is_fixed() -> None:
    assert set(Fixed(17).sample(9, np.random.default_rng(1)).tolist()) == {17}


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: Fixed(0), "1 token or more"),
        (lambda: Lognormal(1000, 900), "from 1000 to 3868"),
        (lambda: Lognormal(1000, 5000), "from 1000 to 3868"),
        (lambda: Lognormal(0.2, 1), "1 token or more"),
        (lambda: Quantiles((0, 1), (0, 5)), "1 or more"),
        (lambda: Quantiles((0, 0.5), (1, 5)), "from level 0 to level 1"),
    ],
)
def test_what_makes_no_sense_is_refused(build, complaint) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=complaint):
        build()
