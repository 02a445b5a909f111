"""Transfer from measured models to an unseen one: covariances, residuals, spread and the choice under doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from plimsoll_recommender import RecommenderError
from plimsoll_recommender.transfer.choice import choose, less_overspend, price_of_overspend
from plimsoll_recommender.transfer.constants import Constant, apart, fit_constants, slopes
from plimsoll_recommender.transfer.covariance import Linear, Rows, Same, Smooth, Term, Within
from plimsoll_recommender.transfer.residual import Residual, fit

TERMS = (
    Term("level", (), 0.3),
    Term("kind", (Same("kind"), Smooth("load", 2.0)), 0.1),
    Term("trend", (Linear(("load",)),), 0.01),
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


def test_by_overspend_a_ruinous_success_is_worse_than_a_likely_failure() -> None:
    # The dear option always carries the load, at six times the cost; the cheap one in one scenario of four.
    costs = np.array([1.0, 6.0])
    carries = np.array([[True, True]] + [[False, True]] * 3)
    assert choose(costs, carries).index == 1
    chosen = choose(costs, carries, less_overspend())
    assert (chosen.index, chosen.value) == (0, 0.25)
    # The control: a failure likely enough is not risked.
    assert choose(costs, np.array([[True, True]] + [[False, True]] * 19), less_overspend()).index == 1


def test_worth_by_overspend_is_one_less_it() -> None:
    costs = np.array([2.0, 3.0])
    both = np.array([[True, True]])
    assert choose(costs, both, less_overspend()).value == 1.0
    assert less_overspend()(costs / 2.0) == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(("success", "overspend"), [(1.0, 0.36), (0.8, 0.2), (0.5, 0.7)])
def test_the_price_of_overspend_is_the_slope_of_the_score(success: float, overspend: float) -> None:
    """Against the score itself, with one recommendation in a million more."""

    def both(s: float, o: float) -> float:
        return 2 * s * (1 - o) / (s + 1 - o)

    def gain(spent: float, step: float = 1e-6) -> float:
        mean = (success * overspend + step * spent) / (success + step)
        return (both(success + step, mean) - both(success, overspend)) / step

    assert price_of_overspend(success, overspend) == pytest.approx((gain(0.0) - gain(1.0)) / gain(0.0), rel=1e-4)


@pytest.mark.parametrize(("success", "overspend"), [(0.0, math.nan), (0.5, 1.2), (0.7, 0.3)])
def test_the_price_is_one_where_there_is_no_slope_and_where_both_are_alike(success: float, overspend: float) -> None:
    assert price_of_overspend(success, overspend) == pytest.approx(1.0)


def test_options_without_scenarios_are_refused() -> None:
    with pytest.raises(RecommenderError, match="a column of scenarios"):
        choose(np.array([1.0, 2.0]), np.array([[True]]))


CONSTANTS = (Constant("fixed", 1.0, 1.0), Constant("per user", 0.1, 1.0))
LOADS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0] * 4)


def seconds(of: Mapping[str, float]) -> NDArray[Any]:
    """Logarithm of a step's time: a fixed part and one per user."""
    return np.log(of["fixed"] + of["per user"] * LOADS)


def test_constants_are_found_and_one_broken_run_hardly_moves_them() -> None:
    random = np.random.default_rng(4)
    measured = seconds({"fixed": 3.0, "per user": 0.05}) + random.normal(0, 0.02, len(LOADS))
    tolerances = np.full(len(LOADS), 0.05)
    found = fit_constants(CONSTANTS, seconds, measured, tolerances)
    assert found == pytest.approx({"fixed": 3.0, "per user": 0.05}, rel=0.05)
    measured[5] += 3.0
    assert fit_constants(CONSTANTS, seconds, measured, tolerances) == pytest.approx(found, rel=0.1)


def test_a_constant_that_measurements_say_nothing_of_keeps_its_expected_value() -> None:
    silent = (*CONSTANTS, Constant("silent", 7.0, 0.5))
    found = fit_constants(silent, seconds, seconds({"fixed": 2.0, "per user": 0.2}), np.full(len(LOADS), 0.05))
    assert found["silent"] == pytest.approx(7.0)
    assert apart(silent, found)[2] == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 10.0), st.floats(0.01, 1.0))
def test_slopes_say_what_a_small_step_of_a_constant_moves(fixed: float, each: float) -> None:
    values = {"fixed": fixed, "per user": each}
    moved = slopes(CONSTANTS, seconds, values)
    assert moved.shape == (len(LOADS), 2)
    nearby = {"fixed": fixed * np.exp(0.01), "per user": each * np.exp(-0.02)}
    assert np.allclose(seconds(nearby) - seconds(values), moved @ np.array([0.01, -0.02]), atol=5e-4)


def test_constants_and_measurements_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecommenderError, match="constant gain: give a value and a spread above zero"):
        Constant("gain", 0.0, 1.0)
    with pytest.raises(RecommenderError, match="a finite measurement and a tolerance above zero"):
        fit_constants(CONSTANTS, seconds, np.full(len(LOADS), np.nan), np.ones(len(LOADS)))


def test_not_knowing_a_constant_widens_what_hangs_on_it() -> None:
    # Constants as a part of the error: where their slopes are steep and nothing was measured, the posterior is wide.
    terms = (Term("constants", (Linear(("a", "b")),), 1.0), Term("level", (), 0.01))
    measured = Rows(("m",) * 4, {"a": np.array([1.0, 0.9, 1.1, 1.0]), "b": np.zeros(4)})
    process = Residual(measured, np.full(4, 0.5), terms, (1.0, 0.01), 1e-4)
    found = process.predict(Rows(("n", "n"), {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}))
    assert found.mean[0] == pytest.approx(0.5, abs=0.02)
    assert found.covariance[1, 1] > 50 * found.covariance[0, 0]


def test_a_term_confined_to_some_rows_leaves_the_others_alone() -> None:
    term = Term("own", (Within(), Linear(("padded",))), 1.0)
    rows = Rows(("m", "m", "n"), {"padded": np.array([1.0, 1.0, 0.0])})
    assert np.array_equal(term.between(rows, rows), [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
