"""The engine's loop: absolute deadlines, lateness, metrics of what ran."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from plimsoll_recommender.scheduler import Request, SchedulerConfig
from plimsoll_recommender.step_load import StepLoad
from plimsoll_runtime.engine import core as engine_core
from plimsoll_runtime.engine.core import EngineCore
from plimsoll_runtime.engine.metrics import EngineMetrics
from plimsoll_runtime.engine.settings import Faults

LIMITS = SchedulerConfig(kv_blocks=64, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=256)
STEP = 0.004
LATE = 0.001


class Constant:
    """Every step takes the same time."""

    def seconds(self, load: StepLoad) -> float:
        """Seconds of a step."""
        return STEP


class Tokens:
    """Keeps the times of a request's tokens."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.done = asyncio.Event()

    def token(self, index: int, *, last: bool) -> None:
        """One more."""
        assert index == len(self.times)
        self.times.append(asyncio.get_running_loop().time())
        if last:
            self.done.set()


def engine() -> EngineCore:
    """An engine on the running loop's clock."""
    metrics = EngineMetrics("m", 256, {}, created=1.0)
    return EngineCore(LIMITS, Constant(), metrics, Faults(), clock=asyncio.get_running_loop().time)


@pytest.fixture
async def core() -> AsyncIterator[EngineCore]:
    """A running engine."""
    made = engine()
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_lateness_does_not_add_up(in_virtual_time: Callable[..., float]) -> None:
    async def scenario() -> float:
        core, tokens = engine(), Tokens()
        running = asyncio.create_task(core.run())
        began = asyncio.get_running_loop().time()
        core.add(Request("a", 10, 100), tokens, 100, stops=False, arrived=began)
        await tokens.done.wait()
        running.cancel()
        return tokens.times[-1] - began

    elapsed = in_virtual_time(scenario(), late=LATE)
    # Timers of an event loop are late by a millisecond each: 100 ms in all if it added up.
    assert 100 * STEP <= elapsed < 100 * STEP + 0.06


async def test_counts(core: EngineCore) -> None:
    now = asyncio.get_running_loop().time()
    first, second = Tokens(), Tokens()
    core.add(Request("a", 20, 5, ("x",)), first, 5, stops=False, arrived=now)
    core.add(Request("b", 20, 3, ("x",)), second, 9, stops=True, arrived=now)
    await core.drained()
    core.refresh()
    metrics = core.metrics
    assert (len(first.times), len(second.times)) == (5, 3)
    assert metrics.generation_tokens.values == [8]
    assert metrics.prompt_tokens.values == [40]
    assert metrics.prompt_by_source.values == [24, 16, 0]
    assert metrics.success.values[:2] == [1, 1]
    assert metrics.params_max_tokens.series[0].total == 14
    assert sum(metrics.itl.series[0].counts) == 6
    assert sum(metrics.ttft.series[0].counts) == 2
    assert metrics.iteration_tokens.series[0].total == 48
    assert metrics.kv_usage.values == [0.0]


async def test_an_aborted_request_is_counted_nowhere(core: EngineCore) -> None:
    tokens = Tokens()
    core.add(Request("a", 20, 200), tokens, 200, stops=False, arrived=asyncio.get_running_loop().time())
    while not tokens.times:
        await asyncio.sleep(0)  # a look between any two steps, also when the engine makes up for lost time
    core.abort("a")
    await core.drained()
    assert sum(core.metrics.success.values) == 0
    assert core.scheduler.pool.used == 0


async def test_it_says_when_it_cannot_keep_up(
    core: EngineCore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine_core, "LAG_WINDOW", 0.1)
    caplog.set_level(logging.WARNING)
    tokens = Tokens()
    loop = asyncio.get_running_loop()
    core.add(Request("a", 10, 200), tokens, 200, stops=False, arrived=loop.time())
    while not core.lag.values[0]:
        # Holds the loop for longer than a step, as too much work would.
        until = loop.time() + 4 * STEP
        while loop.time() < until:
            pass
        await asyncio.sleep(0)
    assert core.lag.values[0] > engine_core.LAG_LIMIT
    assert "cannot keep up" in caplog.text
    core.abort("a")
    while core.lag.values[0]:  # an engine that has idled for a while is not late
        await asyncio.sleep(0.01)
        core.refresh()
