"""The scheduler's rules, one by one, and its invariants under any sequence of calls."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender.scheduler import Request, Scheduler, SchedulerConfig


def config(**values: int | bool) -> SchedulerConfig:
    """A small scheduler."""
    limits = {"kv_blocks": 64, "max_num_seqs": 4, "max_num_batched_tokens": 32, "max_model_len": 128, "block_size": 4}
    return SchedulerConfig(**{**limits, **values})  # type: ignore[arg-type]


def run(scheduler: Scheduler, most: int = 100_000) -> dict[str, int]:
    """Run until idle; tokens emitted by request id."""
    emitted: dict[str, int] = {}
    for _ in range(most):
        step = scheduler.schedule()
        if step is None:
            assert scheduler.idle
            return emitted
        for sequence in scheduler.complete(step).emitted:
            emitted[sequence.request.id] = emitted.get(sequence.request.id, 0) + 1
    raise AssertionError(f"not idle after {most} steps")


def test_one_request_takes_a_prefill_and_a_step_per_further_token() -> None:
    scheduler = Scheduler(config())
    scheduler.add(Request("a", 10, 3))
    loads = []
    while (step := scheduler.schedule()) is not None:
        loads.append(step.load)
        scheduler.complete(step)
    assert [(load.prefill_tokens, load.decode_sequences, load.kv_tokens) for load in loads] == [
        (10, 0, 0),
        (0, 1, 11),
        (0, 1, 12),
    ]
    assert loads[0].prefill_context == sum(range(1, 11))
    assert [load.sampled_sequences for load in loads] == [1, 1, 1]


def test_a_long_prompt_goes_in_chunks_after_the_decodes() -> None:
    scheduler = Scheduler(config())
    scheduler.add(Request("short", 4, 10))
    scheduler.complete(scheduler.schedule())  # type: ignore[arg-type]
    scheduler.add(Request("long", 70, 1))
    step = scheduler.schedule()
    assert step is not None
    assert step.tokens == [1, 31]
    assert step.load.prefill_context == 31 * 32 // 2
    assert step.load.sampled_sequences == 1
    scheduler.complete(step)
    step = scheduler.schedule()
    assert step is not None
    assert step.load.prefill_context == 31 * 31 + 31 * 32 // 2


def test_seats_and_queue() -> None:
    scheduler = Scheduler(config(max_num_seqs=2))
    for name in "abc":
        scheduler.add(Request(name, 4, 2))
    step = scheduler.schedule()
    assert step is not None
    assert [sequence.request.id for sequence in step.admitted] == ["a", "b"]
    assert (scheduler.running, scheduler.waiting) == (2, 1)


def test_the_last_admitted_is_preempted_and_computes_all_again() -> None:
    scheduler = Scheduler(config(kv_blocks=8, max_model_len=32))
    scheduler.add(Request("first", 14, 10))
    scheduler.add(Request("last", 14, 10))
    preempted = []
    while (step := scheduler.schedule()) is not None:
        preempted += [sequence.request.id for sequence in step.preempted]
        recomputed = [
            tokens
            for s, tokens in zip(step.sequences, step.tokens, strict=True)
            if s.preemptions and s in step.admitted
        ]
        assert all(tokens > 14 for tokens in recomputed)
        scheduler.complete(step)
    assert preempted == ["last"]
    assert scheduler.preemptions == 1
    assert scheduler.pool.used == 0


def test_prefixes_are_found_again_but_never_the_whole_prompt() -> None:
    scheduler = Scheduler(config())
    scheduler.add(Request("a", 12, 1, ("p", "q", "r")))
    run(scheduler)
    sequence = scheduler.add(Request("b", 12, 1, ("p", "q", "r")))
    run(scheduler)
    assert sequence.cached_tokens == 8
    assert (scheduler.prefix_queries, scheduler.prefix_hits) == (24, 8)


def test_without_prefix_caching_nothing_is_found() -> None:
    scheduler = Scheduler(config(prefix_caching=False))
    for name in "ab":
        scheduler.add(Request(name, 12, 1, ("p", "q", "r")))
        run(scheduler)
    assert (scheduler.prefix_queries, scheduler.prefix_hits) == (0, 0)


def test_cached_blocks_are_evicted_least_recently_released_first() -> None:
    scheduler = Scheduler(config(kv_blocks=8, max_model_len=32))
    for name in "abc":
        scheduler.add(Request(name, 11, 1, tuple(f"{name}{index}" for index in range(2))))
        run(scheduler)
    # Two blocks each stay cached; a request of seven blocks needs all six empty or cached ones and evicts a's first.
    scheduler.add(Request("big", 19, 1))
    run(scheduler)
    hits = {name: scheduler.pool.leading_hits((f"{name}0", f"{name}1"), 2) for name in "abc"}
    assert hits == {"a": 0, "b": 1, "c": 2}


def test_abort_gives_blocks_back_also_within_a_step() -> None:
    scheduler = Scheduler(config())
    scheduler.add(Request("a", 8, 5))
    scheduler.add(Request("b", 8, 5))
    step = scheduler.schedule()
    assert step is not None
    assert scheduler.abort("a")
    assert not scheduler.abort("a")
    assert [sequence.request.id for sequence in scheduler.complete(step).emitted] == ["b"]
    assert run(scheduler) == {"b": 4}
    assert scheduler.pool.used == 0


def test_output_ends_at_max_model_len() -> None:
    scheduler = Scheduler(config())
    scheduler.add(Request("a", 120, 1000))
    assert run(scheduler) == {"a": 8}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kv_blocks": 31}, "needs 32 KV blocks"),
        ({"max_num_batched_tokens": 3}, "max_num_batched_tokens"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
    ],
)
def test_limits_that_cannot_work_are_refused(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**values)


def test_requests_that_cannot_run_are_refused() -> None:
    scheduler = Scheduler(config())
    with pytest.raises(ValueError, match="max_model_len"):
        scheduler.add(Request("a", 128, 1))
    scheduler.add(Request("a", 4, 1))
    with pytest.raises(ValueError, match="already"):
        scheduler.add(Request("a", 4, 1))
    with pytest.raises(ValueError, match="prompt_tokens"):
        Request("b", 0, 1)
    with pytest.raises(ValueError, match="max_output_tokens"):
        Request("b", 1, 0)


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 60),  # prompt
        st.integers(1, 40),  # output
        st.integers(0, 3),  # which shared prefix
        st.integers(0, 12),  # steps before it arrives
        st.one_of(st.none(), st.integers(1, 20)),  # steps after which it is aborted
    ),
    min_size=1,
    max_size=25,
)
LIMITS = st.tuples(st.integers(26, 60), st.integers(1, 8), st.integers(8, 64), st.booleans())


@settings(max_examples=150, deadline=None)
@given(REQUESTS, LIMITS)
def test_invariants(requests: list[tuple[int, int, int, int, int | None]], limits: tuple[int, int, int, bool]) -> None:
    blocks, seats, batch, caching = limits
    settings_ = config(
        kv_blocks=blocks, max_num_seqs=seats, max_num_batched_tokens=batch, max_model_len=104, prefix_caching=caching
    )
    scheduler = Scheduler(settings_)
    arrivals = sorted((arrival, index) for index, (_, _, _, arrival, _) in enumerate(requests))
    emitted: dict[str, int] = {}
    first_admissions: list[int] = []
    preempted_now: set[str] = set()
    aborted: set[str] = set()
    abort_at: dict[int, list[int]] = {}
    order: list[int] = []
    now = 0
    while arrivals or not scheduler.idle:
        assert now < 20_000, "starved"
        while arrivals and arrivals[0][0] <= now:
            _, index = arrivals.pop(0)
            prompt, output, prefix, _, patience = requests[index]
            hashes = tuple((prefix, block) for block in range(prompt // 4)) if prefix else ()
            scheduler.add(Request(str(index), prompt, output, hashes))
            order.append(index)
            if patience is not None:
                abort_at.setdefault(now + patience, []).append(index)
        for index in abort_at.pop(now, []):
            if scheduler.abort(str(index)):
                aborted.add(str(index))
        step = scheduler.schedule()
        now += 1
        if step is None:
            assert scheduler.waiting == 0
            continue
        assert len(step.sequences) == len({id(sequence) for sequence in step.sequences})
        assert sum(step.tokens) <= batch
        assert min(step.tokens) >= 1
        assert scheduler.running <= seats
        assert step.load.prefill_tokens + step.load.decode_sequences == sum(step.tokens)
        assert 0 <= scheduler.pool.used <= blocks
        # Every block in use is held by someone, and shared ones count once.
        unhashed = sum(sequence.blocks - len(sequence.held) for sequence in scheduler._running)
        hashed = {value for sequence in scheduler._running for value in sequence.held}
        assert scheduler.pool.used == unhashed + len(hashed)
        assert all(sequence.computed + tokens <= sequence.capacity for sequence, tokens in _pairs(step))
        preempted_now |= {sequence.request.id for sequence in step.preempted}
        first_admissions += [int(s.request.id) for s in step.admitted if s.preemptions == 0]
        for sequence in scheduler.complete(step).emitted:
            emitted[sequence.request.id] = emitted.get(sequence.request.id, 0) + 1
    # First come, first served: those admitted are in order of arrival.
    assert first_admissions == [index for index in order if index in set(first_admissions)]
    for index, (_, output, _, _, _) in enumerate(requests):
        if str(index) not in aborted:
            assert emitted[str(index)] == output
        else:
            assert emitted.get(str(index), 0) < output
    assert preempted_now <= set(emitted) | aborted
    assert scheduler.pool.used == 0
    assert scheduler.pool.free == blocks
    assert scheduler.kv_usage == 0


def _pairs(step):  # type: ignore[no-untyped-def]
    return zip(step.sequences, step.tokens, strict=True)


def test_control_the_invariants_notice_a_leak() -> None:
    scheduler = Scheduler(config())
    scheduler.pool.take(1)
    scheduler.add(Request("a", 8, 2))
    run(scheduler)
    assert scheduler.pool.used == 1
