"""Transfer from measured models to an unseen one: covariances, residuals, spread and the choice under doubt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import RecommenderError
from plimsoll_recommender.transfer.choice import choose
from plimsoll_recommender.transfer.covariance import Linear, Rows, Same, Smooth, Term, Within
from plimsoll_recommender.transfer.residual import Residual, fit

TERMS = (
    Term("level", (), 0.3),
    Term("kind", (Same("kind"), Smooth("load", 2.0)), 0.1),
    Term("trend", (Linear("load"),), 0.01),
    Term("group", (Within(),), 0.05),
)


def rows_of(groups: list[str], seed: int = 0, each: int = 6) -> Rows:
    """Rows of `each` loads per group, of two kinds by turns."""
    random = np.random.default_rng(seed)
    names = tuple(name for name in groups for _ in range(each))
    kinds = tuple("ab"[groups.index(name) % 2] for name in names)
    return Rows(names, {"load": random.uniform(0, 7, len(names))}, {"kind": kinds})


def fitted(seed: int = 0) -> Residual:
    """A process fitted to groups with offsets of their own and a step between kinds."""
    random = np.random.default_rng(seed)
    groups = [f"m{index}" for index in range(8)]
    rows = rows_of(groups, seed)
    offsets = dict(zip(groups, random.normal(0, 0.2, len(groups)), strict=True))
    kind = np.array([0.5 if label == "a" else -0.5 for label in rows.labels["kind"]])
    own = np.array([offsets[name] for name in rows.groups])
    return fit(rows, kind + own + random.normal(0, 0.03, len(rows)), TERMS)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_every_term_is_a_covariance(seed: int, count: int) -> None:
    rows = rows_of([f"m{index}" for index in range(count)], seed, each=4)
    for term in TERMS:
        likeness = term.between(rows, rows)
        assert np.allclose(likeness, likeness.T)
        assert np.linalg.eigvalsh(likeness).min() > -1e-8


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(RecommenderError, match="load has 2 rows, the groups have 1"):
        Rows(("m",), {"load": np.array([1.0, 2.0])})


def test_residuals_that_do_not_match_are_refused() -> None:
    with pytest.raises(RecommenderError, match="one finite number per measured row"):
        fit(rows_of(["m"]), np.array([1.0]), TERMS)


def test_the_kind_of_an_unseen_group_is_learned_from_others() -> None:
    process = fitted()
    unseen = Rows(("new", "new"), {"load": np.array([3.0, 3.0])}, {"kind": ("a", "b")})
    mean = process.predict(unseen).mean
    assert mean[0] == pytest.approx(0.5, abs=0.3)
    assert mean[1] == pytest.approx(-0.5, abs=0.3)


def test_an_unseen_group_is_less_certain_than_another_row_of_a_seen_one() -> None:
    process = fitted()
    both = Rows(("m0", "new"), {"load": np.array([3.0, 3.0])}, {"kind": ("a", "a")})
    spread = np.diag(process.predict(both).covariance)
    assert spread[1] > 2 * spread[0]


def test_more_measurements_never_widen_the_posterior() -> None:
    process = fitted()
    fewer = Residual(
        process.rows.where(np.arange(12)), process.residuals[:12], process.terms, process.variances, process.noise
    )
    unseen = rows_of(["new"], 3)
    wide, narrow = fewer.predict(unseen).covariance, process.predict(unseen).covariance
    assert (np.diag(narrow) <= np.diag(wide) + 1e-9).all()


def test_the_residuals_of_a_left_out_group_are_not_used() -> None:
    process = fitted()
    indices, before = process.left_out("m3")
    spoiled = process.residuals.copy()
    spoiled[indices] = 99.0
    _, after = Residual(process.rows, spoiled, process.terms, process.variances, process.noise).left_out("m3")
    assert np.array_equal(before.mean, after.mean)
    # The control: another group's residuals are used.
    spoiled[process.left_out("m4")[0]] = 99.0
    _, moved = Residual(process.rows, spoiled, process.terms, process.variances, process.noise).left_out("m3")
    assert not np.allclose(before.mean, moved.mean)


def test_the_spread_grows_when_groups_differ_more_than_the_variances_say() -> None:
    process = fitted()
    sure = Residual(process.rows, process.residuals, process.terms, (0.3, 0.1, 0.01, 1e-6), process.noise)
    assert sure.calibrated().spread == 2.0
    assert process.calibrated().spread < 2.0


def test_draws_repeat_and_have_the_posterior_s_mean_and_spread() -> None:
    posterior = fitted().predict(rows_of(["new"], 5))
    draws = posterior.draws(20_000, seed=1)
    assert np.array_equal(draws, posterior.draws(20_000, seed=1))
    assert np.allclose(draws.mean(axis=0), posterior.mean, atol=0.02)
    assert np.allclose(np.cov(draws.T), posterior.covariance, atol=0.02)


def test_a_bound_is_as_many_deviations_above_the_mean() -> None:
    posterior = fitted().predict(rows_of(["new"], 5))
    assert np.allclose((posterior.bound(2.0) - posterior.mean) ** 2, 4 * np.diag(posterior.covariance))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1.0, 100.0), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_the_choice_has_the_greatest_value_and_ignores_the_currency(costs: list[float], seed: int) -> None:
    prices = np.array(costs)
    carries = np.random.default_rng(seed).random((40, len(costs))) < 0.6
    chosen = choose(prices, carries)
    assert 0 <= chosen.value <= chosen.success <= 1
    assert choose(prices * 7.3, carries).index == chosen.index


def test_what_surely_carries_the_load_at_least_cost_is_chosen() -> None:
    carries = np.array([[False, True, True]] * 4)
    chosen = choose(np.array([1.0, 2.0, 3.0]), carries)
    assert (chosen.index, chosen.success, chosen.value) == (1, 1.0, 1.0)


def test_a_likely_success_beats_an_unlikely_bargain() -> None:
    carries = np.array([[True, True]] + [[False, True]] * 9)
    assert choose(np.array([1.0, 20.0]), carries).index == 1
    # The control: a bargain likely enough is taken.
    assert choose(np.array([1.0, 20.0]), np.array([[True, True]] * 9 + [[False, True]])).index == 0


def test_options_without_scenarios_are_refused() -> None:
    with pytest.raises(RecommenderError, match="a column of scenarios"):
        choose(np.array([1.0, 2.0]), np.array([[True]]))
