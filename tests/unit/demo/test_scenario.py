"""The demo's traffic: phases, rates and lengths."""

from __future__ import annotations

import pytest

from plimsoll_cli.demo.scenario import PHASES, duration, phase_at, published_requests, rate_profile, replayed_requests
from plimsoll_simulator.traffic import Request

LOAD_LINE = 20.0
CONTEXT = 4096


def rate_in(requests: tuple[Request, ...], start: float, end: float) -> float:
    """Requests per second between two times."""
    return sum(start <= request.at_seconds < end for request in requests) / (end - start)


def test_phases_follow_each_other() -> None:
    """Each time belongs to one phase, before and after to none of them."""
    assert [phase_at(t) for t in (-1.0, 0.0, 39.9, 40.0, 119.9, 120.0, 1e9)] == [
        "starting",
        "calm",
        "calm",
        "burst",
        "burst",
        "calm again",
        "after",
    ]
    assert rate_profile(LOAD_LINE).duration == pytest.approx(duration())


def test_published_requests_follow_the_phases() -> None:
    """The burst asks for more than one replica carries, the calm for less."""
    requests = published_requests(LOAD_LINE, seed=7, context=CONTEXT)
    assert requests == published_requests(LOAD_LINE, seed=7, context=CONTEXT)
    calm, burst, after = PHASES
    assert rate_in(requests, 0, calm.seconds) < 0.8 * LOAD_LINE
    assert rate_in(requests, calm.seconds, calm.seconds + burst.seconds) > 1.6 * LOAD_LINE
    assert rate_in(requests, calm.seconds + burst.seconds, duration()) < 0.6 * LOAD_LINE
    assert all(request.input_tokens + request.output_tokens <= CONTEXT for request in requests)
    assert after.load < 1


def test_a_trace_is_brought_to_the_phases_rates() -> None:
    """A trace of any rate is thinned or repeated; its lengths stay."""
    trace = tuple(Request(at / 5, 300, 40) for at in range(int(duration()) * 5))
    requests = replayed_requests(trace, LOAD_LINE, seed=1, context=CONTEXT)
    calm, burst, _ = PHASES
    assert rate_in(requests, 0, calm.seconds) == pytest.approx(calm.load * LOAD_LINE, rel=0.25)
    assert rate_in(requests, calm.seconds, calm.seconds + burst.seconds) == pytest.approx(
        burst.load * LOAD_LINE, rel=0.25
    )
    assert {(r.input_tokens, r.output_tokens) for r in requests} == {(300, 40)}


def test_lengths_shrink_for_a_small_context() -> None:
    """A tiny model's context holds every request."""
    requests = published_requests(LOAD_LINE, seed=7, context=512, length_factor=0.1)
    assert max(request.input_tokens + request.output_tokens for request in requests) <= 512
