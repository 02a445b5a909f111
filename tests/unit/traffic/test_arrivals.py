"""Arrivals: sorted, inside their time, at their rate and burstiness, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_simulator.traffic import (
    Fixed,
    Lognormal,
    RateProfile,
    TrafficModel,
    constant,
    daily,
    flash_crowd,
    steps,
)
from plimsoll_simulator.traffic.arrivals import arrival_times

PROFILES = {
    "constant": constant(5, 400),
    "steps": steps([(2, 60), (8, 60), (0, 30), (2, 60)]),
    "flash": flash_crowd(2, 5, start=20, ramp=10, hold=30, duration=120),
    "jump": flash_crowd(2, 5, start=20, ramp=0, hold=30, duration=120),
    "daily": daily(1, 6, period=100, duration=250),
}


def model(profile: RateProfile, cv: float = 1.0) -> TrafficModel:
    return TrafficModel(profile, cv, Lognormal(1200, 4000), Lognormal(250, 700))


def test_the_same_seed_gives_the_same_stream_and_another_seed_another() -> None:
    one = model(PROFILES["flash"], 3).requests(7)
    assert one == model(PROFILES["flash"], 3).requests(7)
    assert one != model(PROFILES["flash"], 3).requests(8)


def test_lengths_do_not_move_arrivals() -> None:
    profile = PROFILES["steps"]
    other = TrafficModel(profile, 1, Fixed(3), Fixed(4)).requests(7)
    assert [r.at_seconds for r in model(profile).requests(7)] == [r.at_seconds for r in other]


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", PROFILES)
def test_expected_number_of_arrivals(name: str, cv: float) -> None:
    profile = PROFILES[name]
    seeds = 200
    counts = np.array([len(arrival_times(profile, cv, np.random.default_rng(s))) for s in range(seeds)])
    # The variance of a renewal count is about cv^2 of its mean; five standard errors of the mean of the seeds.
    spread = 5 * max(cv, 0.5) * np.sqrt(profile.expected_requests / seeds)
    assert abs(counts.mean() - profile.expected_requests) <= spread


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 5.0])
def test_gaps_at_a_constant_rate_have_the_coefficient_of_variation(cv: float) -> None:
    gaps = np.diff(arrival_times(constant(50, 2000), cv, np.random.default_rng(1)))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_a_poisson_process_has_counts_as_variable_as_their_mean() -> None:
    counts = np.array([len(arrival_times(constant(5, 20), 1, np.random.default_rng(s))) for s in range(1500)])
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15)


def test_the_rate_follows_the_profile() -> None:
    profile = PROFILES["flash"]
    times = np.concatenate([arrival_times(profile, 1, np.random.default_rng(s)) for s in range(300)])
    counts, edges = np.histogram(times, np.arange(0, 121, 10))
    expected = [300 * 10 * np.mean([profile.rate_at(t) for t in np.linspace(a, a + 10, 101)]) for a in edges[:-1]]
    assert counts == pytest.approx(expected, rel=0.12)


def test_nothing_arrives_while_the_rate_is_zero() -> None:
    times = np.concatenate([arrival_times(PROFILES["steps"], 2, np.random.default_rng(s)) for s in range(50)])
    assert not ((times > 120) & (times < 150)).any()
    assert ((times > 150) & (times < 210)).any()


rates = st.floats(0, 50)
gaps = st.floats(0.0, 50)


@st.composite
def profiles(draw: st.DrawFn) -> RateProfile:
    knots = draw(st.lists(st.tuples(gaps, rates), min_size=2, max_size=8))
    seconds = np.cumsum([0.0, *(gap for gap, _ in knots[1:])])
    seconds[-1] += 1.0
    values = [rate for _, rate in knots]
    values[-1] += 1.0
    return RateProfile(tuple(seconds.tolist()), tuple(values))


@given(profiles(), st.floats(0, 5), st.integers(0, 2**32))
def test_arrivals_are_sorted_and_within_the_profile(profile: RateProfile, cv: float, seed: int) -> None:
    times = arrival_times(profile, cv, np.random.default_rng(seed))
    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times <= profile.duration)).all()


@given(profiles(), st.floats(0, 1, exclude_max=True))
def test_the_inverse_undoes_the_cumulative_rate(profile: RateProfile, share: float) -> None:
    expected = share * profile.expected_requests
    when = float(profile.when(np.array([expected]))[0])
    fine = np.unique(np.concatenate([np.linspace(0, when, 2000), [s for s in profile.seconds if s <= when]]))
    middles = (fine[1:] + fine[:-1]) / 2
    reached = float(np.sum(np.diff(fine) * [profile.rate_at(m) for m in middles]))
    assert reached == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_mean_rate_and_duration_can_be_chosen() -> None:
    profile = PROFILES["flash"].stretched_to(240).with_mean_rate(9)
    assert profile.duration == 240
    assert profile.expected_requests == pytest.approx(2160)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: constant(0, 10), "above 0 somewhere"),
        (lambda: constant(5, 0), "duration above 0"),
        (lambda: constant(float("nan"), 5), "finite"),
        (lambda: steps([(1, 0)]), "must last more than 0 s"),
        (lambda: flash_crowd(2, 5, start=50, ramp=10, hold=30, duration=60), "must fit in the duration, 60 s"),
        (lambda: flash_crowd(2, 0.5, start=0, ramp=0, hold=1, duration=60), "factor 0.5 must be 1 or more"),
        (lambda: daily(5, 1, period=10, duration=10), "low <= high"),
        (lambda: arrival_times(constant(1, 1), -1, np.random.default_rng(1)), "from 0 to 100"),
    ],
)
def test_what_makes_no_sense_is_refused(build, complaint) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=complaint):
        build()
