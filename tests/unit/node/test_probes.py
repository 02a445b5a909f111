"""The probe state machine against its specification in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.sandbox.node.probes import ProbeSpec, begin, observe

thresholds = st.integers(1, 5)
results = st.lists(st.booleans(), max_size=40)


def runs(history: list[bool], wanted: bool, length: int) -> bool:
    """Whether a history ends in at least `length` equal results."""
    return len(history) >= length and all(result is wanted for result in history[-length:])


@given(results, thresholds, thresholds)
def test_readiness_changes_exactly_after_a_run_of_its_threshold(
    history: list[bool], success: int, failure: int
) -> None:
    """Ready iff the newest run that reached its threshold was of successes."""
    spec = ProbeSpec({}, success_threshold=success, failure_threshold=failure)
    state, expected = begin("readiness", spec, 0.0), False
    for index, result in enumerate(history, start=1):
        state = observe(spec, state, result, float(index))
        if runs(history[:index], True, success):
            expected = True
        elif runs(history[:index], False, failure):
            expected = False
        assert state.verdict is expected


@given(results, thresholds)
def test_liveness_gives_up_at_the_first_run_of_failures(history: list[bool], failure: int) -> None:
    """Alive until then, whatever came before."""
    spec = ProbeSpec({}, failure_threshold=failure)
    state = begin("liveness", spec, 0.0)
    for index, result in enumerate(history, start=1):
        state = observe(spec, state, result, float(index))
        if runs(history[:index], False, failure):
            assert state.verdict is False
            return
        assert state.verdict is True


@given(results, thresholds)
def test_startup_is_undecided_until_a_threshold(history: list[bool], failure: int) -> None:
    """One success starts it, a run of failures gives up, nothing else decides."""
    spec = ProbeSpec({}, failure_threshold=failure)
    state = begin("startup", spec, 0.0)
    for index, result in enumerate(history, start=1):
        state = observe(spec, state, result, float(index))
        if result:
            assert state.verdict is True
            return
        assert state.verdict is (False if index >= failure else None)
        if index >= failure:
            return


@given(st.floats(0, 1e6), st.floats(0, 100), st.floats(1, 100))
def test_when_tries_are_due(started: float, delay: float, period: float) -> None:
    """The first after the initial delay, each later one a period after the beginning of the one before."""
    spec = ProbeSpec({}, initial_delay=delay, period=period)
    state = begin("readiness", spec, started)
    assert state.next_at == started + delay
    assert observe(spec, state, True, started + 7).next_at == started + 7 + period


def test_defaults_are_the_api_s() -> None:
    """core/v1 Probe: period 10 s, timeout 1 s, thresholds 1 and 3."""
    spec = ProbeSpec.of({"httpGet": {"port": 1}, "failureThreshold": None})
    assert (spec.initial_delay, spec.period, spec.timeout) == (0, 10, 1)
    assert (spec.success_threshold, spec.failure_threshold) == (1, 3)
