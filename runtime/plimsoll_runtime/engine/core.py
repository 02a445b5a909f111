"""The engine's loop: schedules a step, lets its time pass, hands out its tokens.

Deadlines are absolute: step k ends at the end of step k-1 plus its own time, however late the loop was woken, so that
lateness does not add up. Only after idling does a step begin at the current time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from plimsoll_recommender.scheduler import Request, Scheduler, SchedulerConfig, Sequence, StepResult
from plimsoll_recommender.scheduler.batching import Step
from plimsoll_runtime.engine.exposition import Gauge
from plimsoll_runtime.engine.metrics import EngineMetrics
from plimsoll_runtime.engine.settings import Faults
from plimsoll_runtime.engine.sizing import StepTimes

LAG_LIMIT: Final = 0.005
"""Seconds the loop may be late on average before it says so: a tenth of a usual 50 ms objective per token."""

LAG_WINDOW: Final = 5.0
"""Seconds over which lateness is averaged."""

LOST_TIME: Final = 1.0
"""Seconds of lateness (a suspended process) that are given up, not caught up with in a burst of tokens."""

log = logging.getLogger("plimsoll.engine")


class Receiver(Protocol):
    """Who gets a request's tokens."""

    def token(self, index: int, *, last: bool) -> None:
        """Token number `index` (from 0) is there."""


@dataclass(slots=True, eq=False)
class _Running:
    """A request in the engine. Times are of the monotonic clock."""

    receiver: Receiver
    arrived: float
    max_tokens: int
    stops: bool
    admitted: float = 0.0
    first: float = 0.0
    last: float = 0.0


class EngineCore:
    """One engine.

    Args:
        limits: of its scheduler.
        step_times: how long steps take.
        metrics: what it counts in.
        faults: what goes wrong from the start.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: SchedulerConfig,
        step_times: StepTimes,
        metrics: EngineMetrics,
        faults: Faults,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scheduler = Scheduler(limits)
        self.metrics = metrics
        self.lag = Gauge("plimsoll_engine_lag_seconds", "Mean lateness of steps over the last seconds.", [{}])
        self._step_times = step_times
        self._faults = faults
        self._clock = clock
        self._requests: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        self._unstalled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._lateness = _Lateness(self.lag)
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """What goes wrong at present."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if faults.stalled:
            self._unstalled.clear()
        else:
            self._unstalled.set()

    @property
    def unfinished(self) -> int:
        """Requests waiting or running."""
        return len(self._requests)

    def add(self, request: Request, receiver: Receiver, max_tokens: int, *, stops: bool, arrived: float) -> None:
        """Queue a request. `stops` says that it ends by itself or by a stop string, `arrived` when it came.

        Raises:
            ValueError: the scheduler refuses it.
        """
        self.scheduler.add(request)
        self._requests[request.id] = _Running(receiver, arrived, max_tokens, stops)
        self._drained.clear()
        self._wake.set()

    def abort(self, request_id: str) -> None:
        """Drop a request whose client is gone. As in vLLM, it is counted in no metric."""
        if self._requests.pop(request_id, None) is not None:
            self.scheduler.abort(request_id)
            self._note_drained()

    async def drained(self) -> None:
        """Wait until no request is left."""
        await self._drained.wait()

    def _note_drained(self) -> None:
        if not self._requests:
            self._drained.set()

    async def run(self) -> None:
        """Run until cancelled."""
        end = self._clock()
        while True:
            if self.scheduler.idle:
                self._wake.clear()
                await self._wake.wait()
                end = self._clock()
            step = self.scheduler.schedule()
            if step is None:
                continue
            self._count_schedule(step)
            end += self._step_times.seconds(step.load) * self._faults.slowdown
            await asyncio.sleep(max(0.0, end - self._clock()))
            if not self._unstalled.is_set():
                await self._unstalled.wait()
                end = self._clock()
            now = self._clock()
            self._lateness.note(now, now - end)
            if now - end > LOST_TIME:
                log.warning("the engine was not run for %.1f s; it goes on from now", now - end)
                end = now
            self._hand_out(step, self.scheduler.complete(step), now)

    def refresh(self) -> None:
        """Bring gauges and the scheduler's counters up to date, before rendering."""
        metrics, scheduler = self.metrics, self.scheduler
        self._lateness.forget(self._clock())
        metrics.running.values[0] = float(scheduler.running)
        metrics.waiting.values[0] = metrics.waiting_by_reason.values[0] = float(scheduler.waiting)
        metrics.kv_usage.values[0] = scheduler.kv_usage
        metrics.prefix_queries.values[0] = float(scheduler.prefix_queries)
        metrics.prefix_hits.values[0] = float(scheduler.prefix_hits)
        metrics.preemptions.values[0] = float(scheduler.preemptions)

    def _count_schedule(self, step: Step) -> None:
        now = self._clock()
        for sequence in step.admitted:
            if sequence.preemptions == 0:
                self._requests[sequence.request.id].admitted = now

    def _hand_out(self, step: Step, result: StepResult, now: float) -> None:
        metrics, requests = self.metrics, self._requests
        prompts = 0
        for sequence in result.emitted:
            running = requests[sequence.request.id]
            if sequence.generated == 1:
                prompts += self._count_first(sequence, running, now)
            else:
                metrics.itl.observe(now - running.last)
            running.last = now
            running.receiver.token(sequence.generated - 1, last=sequence.generated >= sequence.output_limit)
        metrics.generation_tokens.values[0] += len(result.emitted)
        metrics.iteration_tokens.observe(prompts + len(result.emitted))
        for sequence in result.finished:
            self._count_finished(sequence, requests.pop(sequence.request.id), now)
        if result.finished:
            self._note_drained()

    def _count_first(self, sequence: Sequence, running: _Running, now: float) -> int:
        """Count what is known with the first token; returns the tokens of the prompt."""
        metrics, prompt, cached = self.metrics, sequence.request.prompt_tokens, sequence.cached_tokens
        running.first = now
        metrics.ttft.observe(now - running.arrived)
        metrics.prompt_tokens.values[0] += prompt
        metrics.prompt_by_source.values[0] += prompt - cached
        metrics.prompt_by_source.values[1] += cached
        metrics.prompt_cached.values[0] += cached
        metrics.prompt_cached_by_source.values[0] += cached
        return prompt

    def _count_finished(self, sequence: Sequence, running: _Running, now: float) -> None:
        metrics, generated = self.metrics, sequence.generated
        metrics.success.values[0 if running.stops else 1] += 1
        metrics.request_prompt.observe(sequence.request.prompt_tokens)
        metrics.request_generation.observe(generated)
        metrics.max_generation.observe(generated)
        metrics.params_n.observe(1)
        metrics.params_max_tokens.observe(running.max_tokens)
        metrics.request_preemptions.observe(sequence.preemptions)
        metrics.prefill_computed.observe(sequence.request.prompt_tokens - sequence.cached_tokens)
        metrics.tpot.observe((now - running.first) / (generated - 1) if generated > 1 else 0.0)
        metrics.e2e.observe(now - running.arrived)
        metrics.queue_time.observe(running.admitted - running.arrived)
        metrics.inference_time.observe(now - running.admitted)
        metrics.prefill_time.observe(running.first - running.admitted)
        metrics.decode_time.observe(now - running.first)


class _Lateness:
    """Mean lateness of steps over a window; says so when it is too much."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._until = 0.0
        self._total = 0.0
        self._count = 0

    def forget(self, now: float) -> None:
        """An engine that has idled for a window is not late."""
        if now > self._until + LAG_WINDOW:
            self._gauge.values[0] = 0.0

    def note(self, now: float, late: float) -> None:
        """One step ended `late` seconds after its time."""
        if now >= self._until:
            mean = self._total / self._count if self._count else 0.0
            self._gauge.values[0] = mean
            if mean > LAG_LIMIT:
                log.warning(
                    "the engine cannot keep up: steps end %.1f ms late on average (limit %.0f ms): "
                    "latencies are those of this machine, not of the model",
                    mean * 1e3,
                    LAG_LIMIT * 1e3,
                )
            self._until, self._total, self._count = now + LAG_WINDOW, 0.0, 0
        self._total += max(0.0, late)
        self._count += 1
