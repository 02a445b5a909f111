"""Runs against a local endpoint: open loop, outcomes, stopping."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import numpy as np
import pytest

from plimsoll_cli.load import LoadPlan, Objectives, Outcome, Progress, run_load, summarise
from plimsoll_cli.load.connection import resolve
from plimsoll_simulator.traffic import Request


def plan(url: str, requests: list[Request], **fields: object) -> LoadPlan:
    duration = max(requests[-1].at_seconds, 0.1)
    return LoadPlan(url=url, model="m", requests=tuple(requests), duration=duration, **fields)  # type: ignore[arg-type]


def evenly(count: int, seconds: float, tokens: int = 5) -> list[Request]:
    return [Request(seconds * i / count, 20, tokens) for i in range(count)]


async def test_a_whole_run_counts_every_token(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.token_gap = 0.01
    result = await run_load(plan(endpoint.url, evenly(20, 0.5), objectives=Objectives(ttft=60, tpot=60)))
    summary = summarise(result)
    assert (summary.completed, summary.misses, summary.attainment) == (20, 0, 1.0)
    assert summary.output_tokens == 100
    assert summary.itl.count == 80
    assert summary.tpot.p50 >= 0.009
    assert (result.records.first_token >= result.records.sent).all()
    assert (result.records.sent >= result.records.dispatched).all()


async def test_prompts_have_their_length_and_share_no_prefix(endpoint) -> None:  # type: ignore[no-untyped-def]
    await run_load(plan(endpoint.url, [Request(0, n, 1) for n in (1, 5, 8, 9, 300)]))
    prompts = [body["prompt"] for body in endpoint.bodies]
    assert sorted(map(len, prompts)) == [1, 5, 8, 9, 300]
    assert len({prompt[0] for prompt in prompts}) == 5
    assert all(10 <= token < 250 for prompt in prompts for token in prompt)
    assert {body["ignore_eos"] for body in endpoint.bodies} == {True}


async def test_another_run_has_other_prompts_unless_told(endpoint) -> None:  # type: ignore[no-untyped-def]
    for salt in (None, None, 5, 5):
        await run_load(plan(endpoint.url, [Request(0, 40, 1)], seed=3, salt=salt))
    first, second, third, fourth = (body["prompt"][:8] for body in endpoint.bodies)
    assert first != second
    assert third == fourth


async def test_latency_counts_from_the_scheduled_time_through_a_stall(endpoint) -> None:  # type: ignore[no-untyped-def]
    """A server that stands still for 1 s is charged for everyone who comes meanwhile."""
    stall = 1.0
    endpoint.behaviour = "stall"
    requests = evenly(50, stall)
    opening = asyncio.create_task(endpoint.open_gate_at(50))
    summary = summarise(await run_load(plan(endpoint.url, requests)))
    await opening
    assert summary.completed == 50
    # The stall ends after the last arrival, and arrivals are spread over it: the bounds hold on any machine.
    assert summary.ttft.maximum >= 0.95 * stall
    assert summary.ttft.p50 >= 0.45 * stall

    # The control: one client that waits for each answer sees one slow request and 49 quick ones.
    endpoint.gate.clear()
    asyncio.get_running_loop().call_later(stall, endpoint.gate.set)
    waits = []
    async with aiohttp.ClientSession() as session:
        for _ in requests:
            before = time.perf_counter()
            body = {"prompt": [1], "max_tokens": 1}
            async with session.post(endpoint.url + "/v1/completions", json=body) as response:
                await response.read()
            waits.append(time.perf_counter() - before)
    assert summary.ttft.p50 > 2 * float(np.median(waits))


async def test_requests_go_out_while_nothing_is_answered(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.behaviour = "stall"
    opening = asyncio.create_task(endpoint.open_gate_at(300))
    result = await run_load(plan(endpoint.url, evenly(300, 0.5, tokens=3), timeout=60))
    await opening
    assert endpoint.most_in_flight == 300
    assert summarise(result).completed == 300


@pytest.mark.parametrize(
    ("behaviour", "outcome", "error"),
    [
        ("refuse", Outcome.FAILED, "HTTP 503: too many requests are queued"),
        ("error event", Outcome.FAILED, "EngineCore died"),
        ("cut", Outcome.TRUNCATED, "stream ended without finish_reason"),
        ("end early", Outcome.TRUNCATED, "stream ended without finish_reason"),
        ("abort", Outcome.TRUNCATED, "finish_reason abort"),
        ("short", Outcome.TRUNCATED, "finished for length after 9 of 10 tokens"),
    ],
)
async def test_an_answer_that_is_not_whole_is_told(endpoint, behaviour, outcome, error) -> None:  # type: ignore[no-untyped-def]
    endpoint.behaviour = behaviour
    result = await run_load(plan(endpoint.url, [Request(0, 5, 10)] * 3))
    assert set(result.records.outcome) == {outcome}
    assert all(error in text for text in result.records.error)
    summary = summarise(result)
    assert summary.misses == 3
    assert summary.attainment == 0
    assert sum(summary.errors.values()) == 3


async def test_a_request_without_an_answer_times_out_from_its_scheduled_time(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.behaviour = "stall"
    result = await run_load(plan(endpoint.url, evenly(4, 0.4), timeout=0.3))
    assert set(result.records.outcome) == {Outcome.TIMED_OUT}
    summary = summarise(result)
    waited = result.records.ended - result.records.scheduled
    assert (waited > 0.299).all()
    assert (waited < 0.55 + 2 * summary.loop_delay.maximum).all()  # this process may have had to wait itself
    assert summary.errors == {"no whole answer within 0.3 s": 4}


async def test_a_closed_port_fails_every_request(endpoint) -> None:  # type: ignore[no-untyped-def]
    result = await run_load(plan("http://127.0.0.1:1", evenly(3, 0.1)))
    assert summarise(result).errors == {"connection refused": 3}


async def test_addresses_on_which_nothing_listens_are_left_out(endpoint, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """`localhost` is of both families on most machines, the server of one; where all refuse, the requests say so."""
    port = endpoint.url.rpartition(":")[2]

    async def both(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(None, None, 6, "", (address, int(port))) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert summarise(await run_load(plan(f"http://localhost:{port}", evenly(10, 0.1)))).completed == 10
    assert (await resolve("http://localhost:1", "/", None)).addresses == ("127.0.0.2", "127.0.0.1")


async def test_stopping_keeps_what_was_measured(endpoint) -> None:  # type: ignore[no-untyped-def]
    stop = asyncio.Event()
    endpoint.token_gap = 0.02

    def watch(progress: Progress) -> None:
        if progress.completed >= 3:
            stop.set()

    requests = evenly(2000, 100, tokens=4)
    result = await run_load(plan(endpoint.url, requests, progress_interval=0.05), watch, stop=stop)
    summary = summarise(result)
    assert result.interrupted
    assert summary.completed >= 3
    assert summary.misses == 0
    assert summary.sent < 1000
    assert summary.abandoned == summary.sent - summary.completed


async def test_cancelling_closes_every_connection(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.behaviour = "stall"
    running = asyncio.create_task(run_load(plan(endpoint.url, evenly(20, 0.1))))
    async with asyncio.timeout(60):
        while endpoint.in_flight < 20:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while endpoint.in_flight:
            await asyncio.sleep(0.01)


async def test_progress_adds_up(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.token_gap = 0.02
    endpoint.behaviour = "stall"
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 4:  # nothing is answered, so nothing can be over, before
            endpoint.gate.set()

    await run_load(plan(endpoint.url, evenly(40, 0.6), progress_interval=0.1), watch)
    assert len(seen) >= 4
    assert all(p.sent == p.completed + p.failed + p.truncated + p.in_flight for p in seen)
    assert (seen[-1].completed, seen[-1].in_flight) == (40, 0)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://user:secret@127.0.0.1:80", "http://"])
async def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="write it as http://host:port"):
        await run_load(plan(url, [Request(0, 1, 1)]))


async def test_own_delay_is_seen_and_said(endpoint) -> None:  # type: ignore[no-untyped-def]
    """The control of the lag measurement: a generator that is held up must not look punctual."""

    pauses = iter([1.5])  # once, and longer than a busy machine holds it up

    def hold_up(_: Progress) -> None:
        time.sleep(next(pauses, 0.0))

    punctual = summarise(await run_load(plan(endpoint.url, evenly(50, 0.5))))
    held_up = summarise(await run_load(plan(endpoint.url, evenly(50, 0.5), progress_interval=0.05), hold_up))
    assert held_up.lag.p99 > 0.05
    assert held_up.loop_delay.maximum > 0.05
    assert not held_up.trusted
    assert held_up.lag.p50 > punctual.lag.p50
