"""The replay against what must hold of any engine, and against cases that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import EngineConfig, ModelFacts, accelerator
from plimsoll_recommender.scheduler import Request, Scheduler, SchedulerConfig
from plimsoll_recommender.step_load import StepLoad
from plimsoll_simulator.replay import TracedRequest, modelled_replica, replay, traced
from plimsoll_simulator.traffic import Request as Arrival


@dataclass(frozen=True)
class Linear:
    """A second per step and a hundredth per prompt token."""

    fixed: float = 1.0
    per_prompt_token: float = 0.01

    def seconds(self, load: StepLoad) -> float:
        return self.fixed + self.per_prompt_token * load.prefill_tokens


def limits(**values: int | bool) -> SchedulerConfig:
    """A small replica."""
    chosen = {"kv_blocks": 64, "max_num_seqs": 4, "max_num_batched_tokens": 32, "max_model_len": 128, "block_size": 4}
    return SchedulerConfig(**{**chosen, **values})  # type: ignore[arg-type]


def test_one_request_alone() -> None:
    result = replay([TracedRequest(5.0, 10, 4)], limits(), Linear())
    (outcome,) = result.outcomes
    assert outcome.ttft == pytest.approx(1.1)
    assert outcome.tpot == pytest.approx(1.0)
    assert outcome.e2e == pytest.approx(4.1)
    assert (outcome.scheduled, outcome.output_tokens, result.steps) == (5.0, 4, 4)
    assert outcome.prefill_seconds == pytest.approx(1.1)


@pytest.mark.parametrize(("async_scheduling", "first"), [(False, 3.1), (True, 4.1)])
def test_a_request_that_arrives_during_a_step_misses_the_one_already_prepared(
    async_scheduling: bool, first: float
) -> None:
    trace = [TracedRequest(0.0, 1, 20), TracedRequest(1.5, 11, 2)]
    result = replay(trace, limits(), Linear(per_prompt_token=0.01), async_scheduling=async_scheduling)
    assert result.outcomes[1].first_token == pytest.approx(first + 0.01 + 0.01)


def test_a_prompt_longer_than_a_step_goes_in_chunks() -> None:
    result = replay([TracedRequest(0.0, 70, 2)], limits(), Linear())
    assert result.outcomes[0].ttft == pytest.approx(3 + 0.70)
    assert result.steps == 4


def test_shared_prefixes_are_computed_once() -> None:
    prefix = tuple(range(5))
    trace = [TracedRequest(0.0, 24, 2, prefix), TracedRequest(50.0, 24, 2, prefix)]
    cold, warm = replay(trace, limits(), Linear()).outcomes
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 20)
    assert cold.ttft - warm.ttft == pytest.approx(0.2)
    again = replay(trace, limits(prefix_caching=False), Linear())
    assert (again.outcomes[1].cached_tokens, again.prefix_queries) == (0, 0)


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    trace = [TracedRequest(0.0, 14, 10), TracedRequest(0.0, 14, 10)]
    tight = {"kv_blocks": 8, "max_model_len": 32}
    with_cache = replay(trace, limits(**tight), Linear())
    without = replay(trace, limits(**tight, prefix_caching=False), Linear())
    assert with_cache.preemptions == without.preemptions == 1
    assert with_cache.busy_seconds < without.busy_seconds


def test_gauges_are_sampled_at_regular_times() -> None:
    trace = [TracedRequest(0.0, 8, 4), TracedRequest(0.0, 8, 4), TracedRequest(20.0, 8, 2)]
    result = replay(trace, limits(max_num_seqs=1), Linear(), sample_interval=0.5)
    assert [sample.at for sample in result.samples[:3]] == [0.5, 1.0, 1.5]
    assert (result.samples[0].running, result.samples[0].waiting) == (1, 1)
    idle = [sample for sample in result.samples if 10 < sample.at < 20]
    assert idle
    assert all((sample.running, sample.kv_usage) == (0, 0.0) for sample in idle)


def test_nothing_in_nothing_out() -> None:
    result = replay([], limits(), Linear())
    assert (result.outcomes, result.steps) == ((), 0)


def test_a_request_that_cannot_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match=r"prompt_tokens \(128\)"):
        replay([TracedRequest(0.0, 128, 1)], limits(), Linear())


def test_a_modelled_replica_is_replayed() -> None:
    facts, gpu = ModelFacts.load("meta-llama/Llama-3.1-8B"), accelerator("H100")
    replica = modelled_replica(facts, gpu, EngineConfig(max_num_seqs=64, max_model_len=8192))
    arrivals = [Arrival(0.2 * index, 500 + 10 * index, 100) for index in range(50)]
    result = replay(traced(arrivals), replica.limits, replica.step_times)
    assert all(0.003 < outcome.tpot < 0.05 for outcome in result.outcomes)
    assert all(0.005 < outcome.ttft < 0.5 for outcome in result.outcomes)


def test_blocks_as_logged_replace_the_ledgers() -> None:
    facts, gpu = ModelFacts.load("meta-llama/Llama-3.1-8B"), accelerator("H100")
    replica = modelled_replica(facts, gpu, EngineConfig(max_model_len=32768), kv_blocks=1000)
    assert replica.limits.kv_blocks == 999
    assert replica.limits.max_model_len == 999 * 16


TRACES = st.lists(
    st.tuples(
        st.floats(0, 60, allow_nan=False),  # arrival
        st.integers(1, 60),  # prompt
        st.integers(1, 40),  # output
        st.integers(0, 3),  # which shared prefix
    ),
    min_size=1,
    max_size=25,
)
LIMITS = st.tuples(st.integers(26, 60), st.integers(1, 8), st.integers(8, 64), st.booleans())


@settings(max_examples=100, deadline=None)
@given(TRACES, LIMITS, st.booleans())
def test_invariants(
    rows: list[tuple[float, int, int, int]], chosen: tuple[int, int, int, bool], async_scheduling: bool
) -> None:
    blocks, seats, batch, caching = chosen
    config = limits(
        kv_blocks=blocks, max_num_seqs=seats, max_num_batched_tokens=batch, max_model_len=104, prefix_caching=caching
    )
    trace = [
        TracedRequest(at, prompt, output, tuple((prefix, block) for block in range(prompt // 4)) if prefix else ())
        for at, prompt, output, prefix in rows
    ]
    times = Linear(fixed=0.3)
    result = replay(trace, config, times, async_scheduling=async_scheduling, sample_interval=0.7)
    assert result == replay(trace, config, times, async_scheduling=async_scheduling, sample_interval=0.7)
    in_order = sorted(trace, key=lambda request: request.at)
    # Every request ends, with as many tokens as it was to generate.
    assert [(o.arrived, o.prompt_tokens, o.output_tokens) for o in result.outcomes] == [
        (r.at, r.prompt_tokens, r.output_tokens) for r in in_order
    ]
    for outcome in result.outcomes:
        assert outcome.arrived <= outcome.queued <= outcome.scheduled < outcome.first_token <= outcome.last_token
        assert outcome.ttft >= outcome.prefill_seconds - 1e-9
        computed = outcome.prompt_tokens - outcome.cached_tokens
        assert outcome.prefill_seconds >= math.ceil(computed / batch) * 0.3 - 1e-9
        assert outcome.last_token - outcome.first_token >= (outcome.output_tokens - 1) * 0.3 - 1e-9
        assert 0 <= outcome.cached_tokens < outcome.prompt_tokens
    # First come, first served.
    scheduled = [outcome.scheduled for outcome in result.outcomes]
    assert scheduled == sorted(scheduled)
    assert all(0 <= sample.running <= seats and 0 <= sample.kv_usage <= 1 for sample in result.samples)
    assert result.busy_seconds <= result.ended - in_order[0].at + 1e-6
    assert result.prefix_hits <= result.prefix_queries


@settings(max_examples=60, deadline=None)
@given(TRACES, LIMITS)
def test_steps_in_flight_never_hold_more_than_the_engine_has(
    rows: list[tuple[float, int, int, int]], chosen: tuple[int, int, int, bool]
) -> None:
    blocks, seats, batch, caching = chosen
    scheduler = Scheduler(
        limits(
            kv_blocks=blocks,
            max_num_seqs=seats,
            max_num_batched_tokens=batch,
            max_model_len=104,
            prefix_caching=caching,
        )
    )
    for index, (_, prompt, output, _) in enumerate(rows):
        scheduler.add(Request(str(index), prompt, output, range(1000 * index, 1000 * index + (prompt + output) // 4)))
    flights = []
    generated = 0
    computed = 0
    while not scheduler.idle:
        while len(flights) < 2 and (step := scheduler.schedule()) is not None:
            assert sum(step.tokens) <= batch
            assert len(step.sequences) <= scheduler.running <= seats
            assert scheduler.pool.used <= blocks
            assert step.load.prefill_tokens + step.load.decode_sequences == sum(step.tokens)
            assert all(sequence.scheduled <= sequence.capacity for sequence in step.sequences)
            flights.append(step)
            computed += sum(step.tokens)
        generated += len(scheduler.complete(flights.pop(0)).emitted)
    assert generated == sum(output for _, _, output, _ in rows)
    # The last token of each is not computed; what preemption lost is computed twice, what the cache kept not at all.
    least = sum(prompt + output - 1 for _, prompt, output, _ in rows)
    assert computed >= least
    assert scheduler.preemptions > 0 or computed == least
    assert scheduler.pool.used == 0


def test_control_an_engine_that_is_too_slow_is_noticed() -> None:
    quick = replay([TracedRequest(0.0, 10, 4)], limits(), Linear())
    slow = replay([TracedRequest(0.0, 10, 4)], limits(), Linear(fixed=2.0))
    assert slow.outcomes[0].ttft > quick.outcomes[0].ttft
    assert slow.outcomes[0].tpot == pytest.approx(2.0)


@settings(max_examples=150, deadline=None)
@given(TRACES, LIMITS, st.booleans())
def test_steps_done_at_once_are_the_steps_done_one_by_one(
    rows: list[tuple[float, int, int, int]], chosen: tuple[int, int, int, bool], async_scheduling: bool
) -> None:
    blocks, seats, batch, caching = chosen
    config = limits(
        kv_blocks=blocks, max_num_seqs=seats, max_num_batched_tokens=batch, max_model_len=104, prefix_caching=caching
    )
    trace = [
        TracedRequest(at, prompt, output, tuple((prefix, block) for block in range(prompt // 4)) if prefix else ())
        for at, prompt, output, prefix in rows
    ]
    times = Linear(fixed=0.3)
    at_once = replay(trace, config, times, async_scheduling=async_scheduling)
    # Looking at the gauges within every step leaves no two steps to be done at once.
    one_by_one = replay(trace, config, times, async_scheduling=async_scheduling, sample_interval=0.1)
    assert replace(one_by_one, samples=()) == at_once
