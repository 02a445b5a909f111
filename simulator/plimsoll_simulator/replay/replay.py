"""Replays a trace through the scheduler model in simulated time.

The loop is vLLM's engine core with a queue of batches (`EngineCore.step_with_batch_queue`): requests are
taken in between steps, and with asynchronous scheduling the next step is prepared while one runs. A request that
arrives during a step therefore misses the step that follows it and runs in the one after.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Final, Protocol

from plimsoll_recommender.scheduler import Request, Scheduler, SchedulerConfig, Sequence, Step
from plimsoll_recommender.step_load import StepLoad
from plimsoll_simulator.replay.outcome import Outcome, ReplayResult, Sample
from plimsoll_simulator.traffic import requests as traffic

ASYNC_BATCHES: Final = 2
"""Steps in flight with asynchronous scheduling: one runs, one is prepared (vLLM's `max_concurrent_batches`)."""


LEAST_LEAP: Final = 3
"""Steps from which doing them at once is worth looking at every sequence."""


class StepTimes(Protocol):
    """Seconds of a step."""

    def seconds(self, load: StepLoad) -> float:
        """Seconds of one step with this load."""


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One request of a trace.

    Args:
        at: when it arrives, seconds.
        prompt_tokens: length of its prompt.
        output_tokens: tokens it generates.
        prefix_hashes: hash of each full leading block that it may share with others, each covering all before it.
    """

    at: float
    prompt_tokens: int
    output_tokens: int
    prefix_hashes: tuple[Hashable, ...] = ()


def traced(requests: Iterable[traffic.Request]) -> tuple[TracedRequest, ...]:
    """A stream of traffic as a trace in which no request shares a prefix with another."""
    return tuple(TracedRequest(r.at_seconds, r.input_tokens, r.output_tokens) for r in requests)


@dataclass(slots=True, eq=False)
class _Progress:
    """What is noted of a request on its way."""

    arrived: float
    queued: float
    scheduled: float = math.nan
    first: float = math.nan
    last: float = math.nan
    prefill: float = 0.0


@dataclass(slots=True, eq=False)
class _Flight:
    """A step in flight."""

    step: Step
    end: float
    seconds: float


@dataclass(slots=True, eq=False)
class _Replica:
    """The replica at a moment of the replay."""

    scheduler: Scheduler
    step_times: StepTimes
    depth: int
    progress: dict[str, _Progress] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    flights: deque[_Flight] = field(default_factory=deque)
    free_at: float = -math.inf
    steps: int = 0
    busy: float = 0.0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def launch(self, now: float) -> None:
        """Prepare steps until enough are in flight or there is nothing to compute."""
        while len(self.flights) < self.depth:
            step = self.scheduler.schedule()
            if step is None:
                return
            for sequence in step.admitted:
                noted = self.progress[sequence.request.id]
                if math.isnan(noted.scheduled):
                    noted.scheduled = now
            seconds = self.step_times.seconds(step.load)
            self.free_at = max(now, self.free_at) + seconds
            self.steps += 1
            self.busy += seconds
            self.flights.append(_Flight(step, self.free_at, seconds))

    def land(self) -> None:
        """Complete the oldest step in flight."""
        flight = self.flights.popleft()
        step, end = flight.step, flight.end
        if step.load.prefill_tokens:
            for sequence in step.sequences:
                if not sequence.generated:
                    self.progress[sequence.request.id].prefill += flight.seconds
        result = self.scheduler.complete(step)
        self.generated_tokens += len(result.emitted)
        for sequence in result.emitted:
            if sequence.generated == 1:
                self.progress[sequence.request.id].first = end
                self.prompt_tokens += sequence.request.prompt_tokens
        for sequence in result.finished:
            self._note_end(sequence, end)

    def leap(self, now: float, horizon: float) -> float:
        """Run steps that only decode, all at once, as long as they are complete by `horizon`; the time after them."""
        flights, scheduler = self.flights, self.scheduler
        if len(flights) != self.depth - 1 or (flights and flights[0].step.load.prefill_tokens):
            return now
        most = scheduler.uneventful()
        if most < LEAST_LEAP:
            return now
        sequences, read = scheduler.running, scheduler.scheduled_tokens
        rounds, spent, end, load = 0, 0.0, flights[0].end if flights else math.inf, StepLoad()
        while rounds < most:
            following = StepLoad(0, 0, sequences, read + sequences, sequences)
            seconds = self.step_times.seconds(following)
            ready = max(now, self.free_at) + seconds
            landed = end if flights else ready
            if landed > horizon:
                break
            load, spent, read = following, seconds, read + sequences
            now, end, self.free_at = landed, ready, ready
            self.busy += seconds
            rounds += 1
        if rounds:
            scheduler.skip(rounds)
            self.steps += rounds
            self.generated_tokens += rounds * sequences
            if flights:
                # The same sequences, so many tokens later.
                flights[0].step.load, flights[0].end, flights[0].seconds = load, end, spent
        return now

    def _note_end(self, sequence: Sequence, end: float) -> None:
        request = sequence.request
        noted = self.progress.pop(request.id)
        self.outcomes[request.id] = Outcome(
            id=request.id,
            prompt_tokens=request.prompt_tokens,
            output_tokens=sequence.generated,
            arrived=noted.arrived,
            queued=noted.queued,
            scheduled=noted.scheduled,
            first_token=noted.first,
            last_token=end,
            prefill_seconds=noted.prefill,
            cached_tokens=sequence.cached_tokens,
            preemptions=sequence.preemptions,
        )


def replay(
    requests: Iterable[TracedRequest],
    limits: SchedulerConfig,
    step_times: StepTimes,
    *,
    async_scheduling: bool = True,
    request_overhead: float = 0.0,
    sample_interval: float | None = None,
) -> ReplayResult:
    """Replay a trace; deterministic.

    Args:
        requests: the trace, in any order.
        limits: of the replica's scheduler.
        step_times: how long its steps take.
        async_scheduling: prepare a step while the one before it runs (vLLM's default since 0.14).
        request_overhead: seconds from a request's arrival to the engine's queue (HTTP, tokenisation).
        sample_interval: seconds between samples of the gauges; None takes none.

    Raises:
        ValueError: a request whose prompt leaves no room for a token within `max_model_len`.
    """
    trace = sorted(requests, key=lambda request: request.at)
    scheduler = Scheduler(limits)
    replica = _Replica(scheduler, step_times, ASYNC_BATCHES if async_scheduling else 1)
    sampler = _Sampler(replica, sample_interval, trace[0].at if trace else 0.0)
    hashes = _Hashes(limits)
    arrived, now = 0, -math.inf
    while arrived < len(trace) or not scheduler.idle:
        if not replica.flights and scheduler.idle:
            now = max(now, trace[arrived].at + request_overhead)
            sampler.reach(now)
        while arrived < len(trace) and trace[arrived].at + request_overhead <= now:
            request = trace[arrived]
            name = str(arrived)
            replica.progress[name] = _Progress(request.at, now)
            scheduler.add(Request(name, request.prompt_tokens, request.output_tokens, hashes.of(request)))
            arrived += 1
        following = trace[arrived].at + request_overhead if arrived < len(trace) else math.inf
        now = replica.leap(now, min(following, sampler.due))
        replica.launch(now)
        now = replica.flights[0].end
        sampler.reach(now)
        replica.land()
    return ReplayResult(
        outcomes=tuple(replica.outcomes[str(index)] for index in range(len(trace))),
        samples=tuple(sampler.samples),
        steps=replica.steps,
        busy_seconds=replica.busy,
        ended=now,
        preemptions=scheduler.preemptions,
        prefix_queries=scheduler.prefix_queries,
        prefix_hits=scheduler.prefix_hits,
    )


class _Hashes:
    """Content hashes of a trace's blocks.

    Blocks that are no one else's are numbered, so that a preempted request finds its own again, as in vLLM.
    """

    def __init__(self, limits: SchedulerConfig) -> None:
        self._size = limits.block_size
        self._caching = limits.prefix_caching
        self._next = 0

    def of(self, request: TracedRequest) -> SequenceOf[Hashable]:
        """Hashes of every block that the request can fill."""
        if not self._caching:
            return ()
        shared = len(request.prefix_hashes)
        own = max(0, (request.prompt_tokens + request.output_tokens) // self._size - shared)
        numbers = range(self._next, self._next + own)
        self._next += own
        return (*(("shared", value) for value in request.prefix_hashes), *numbers) if shared else numbers


class _Sampler:
    """Looks at the replica at regular times; call `reach` before anything changes."""

    def __init__(self, replica: _Replica, interval: float | None, begin: float) -> None:
        self.samples: list[Sample] = []
        self.due = begin + interval if interval else math.inf
        self._replica = replica
        self._interval = interval or 0.0
        self._begin = begin

    def reach(self, now: float) -> None:
        """Sample every due moment before `now`."""
        replica, scheduler = self._replica, self._replica.scheduler
        while self.due < now:
            self.samples.append(
                Sample(
                    at=self.due,
                    running=scheduler.running,
                    waiting=scheduler.waiting,
                    kv_usage=scheduler.kv_usage,
                    prompt_tokens=replica.prompt_tokens,
                    generated_tokens=replica.generated_tokens,
                )
            )
            self.due = self._begin + self._interval * (len(self.samples) + 1)
