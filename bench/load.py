"""The load generator's own delay: 600 streams of 20 tokens/s from one process.

The endpoint is a process of its own that sends ready-made events at exact intervals, so that what is measured is the
generator. `python -m bench.load` is that endpoint.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import aiohttp
import uvloop

from bench.figures import Context, Figure
from plimsoll_cli.load import LoadPlan, LoadResult, run_load, summarise
from plimsoll_cli.load.statistics import LAG_LIMIT_SECONDS, series
from plimsoll_simulator.traffic import Fixed, TrafficModel, constant

T = TypeVar("T")

STREAMS: Final = 500
"""At once, the bar."""
_MORE: Final = 1.2
"""Streams aimed at over the bar: Poisson arrivals vary by about 25 of 600, and the bar is to hold throughout."""
TOKENS_PER_SECOND: Final = 20.0
"""Of each stream: 50 ms per token, an engine under a usual load."""
INPUT_TOKENS: Final = 500
_AIOHTTP_STREAMS: Final = STREAMS

_EVENT: Final = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"bench","choices":[{"index":0,'
    b'"text":" token","logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null}],"usage":null}\n\n'
)
_LAST: Final = _EVENT.replace(b'"finish_reason":null', b'"finish_reason":"length"') + b"data: [DONE]\n\n"


def run(context: Context) -> list[Figure]:
    """Measure lag, delay, rate and CPU with 500 streams, and what a general client would cost."""
    seconds_per_stream, sending = (2.0, 4.0) if context.quick else (10.0, 20.0)
    with _endpoint() as url:
        result, cpu = _measured(_load(url, seconds_per_stream, sending, context.seed))
        events, general = _measured(_aiohttp(url, seconds_per_stream))
    summary = summarise(result)
    steady = _steady(result, seconds_per_stream, sending)
    asked = f"{STREAMS * _MORE:.0f} streams of {TOKENS_PER_SECOND:g} tokens/s for {sending:g} s, seed {context.seed}"
    own_event, general_event = cpu / max(summary.output_tokens, 1), general / max(events, 1)
    tpot_error = (summary.tpot.p50 or 0.0) - 1 / TOKENS_PER_SECOND
    limit = LAG_LIMIT_SECONDS * 1000
    return [
        Figure("streams at once", steady[0], "streams", STREAMS, ">=", asked),
        Figure("own scheduling lag p99", _ms(summary.lag.p99), "ms", limit, "<=", f"{summary.sent} requests"),
        Figure("own scheduling lag p50", _ms(summary.lag.p50), "ms"),
        Figure("own event loop delay p99", _ms(summary.loop_delay.p99), "ms", limit, "<=", "sampled every 20 ms"),
        Figure("tokens received", steady[1], "tokens/s", detail="while all streams run"),
        Figure("CPU", cpu / result.elapsed * 100, "% of a core", detail="whole run, ramps included"),
        Figure(
            "TPOT p50 beyond the endpoint's 50 ms", _ms(tpot_error), "ms", detail="includes the endpoint's own timers"
        ),
        Figure("requests not whole", summary.misses, "requests", 0, "<="),
        Figure("CPU per token", own_event * 1e6, "us"),
        Figure("CPU per token, aiohttp client", general_event * 1e6, "us", detail=f"{_AIOHTTP_STREAMS} streams"),
    ]


async def _load(url: str, seconds_per_stream: float, sending: float, seed: int) -> LoadResult:
    rate = STREAMS * _MORE / seconds_per_stream
    tokens = round(seconds_per_stream * TOKENS_PER_SECOND)
    model = TrafficModel(constant(rate, sending), 1.0, Fixed(INPUT_TOKENS), Fixed(tokens))
    return await run_load(LoadPlan(url, "bench", model.requests(seed), sending, seed=seed))


async def _aiohttp(url: str, seconds: float) -> int:
    """The same reading with aiohttp's client, line by line; the number of events."""
    tokens = round(seconds * TOKENS_PER_SECOND)

    async def one(session: aiohttp.ClientSession) -> int:
        body = {"prompt": [1] * INPUT_TOKENS, "max_tokens": tokens}
        async with session.post(url + "/v1/completions", json=body) as response:
            return sum([1 async for line in response.content if line.startswith(b"data:")])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return sum(await asyncio.gather(*(one(session) for _ in range(_AIOHTTP_STREAMS))))


def _measured(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """(result, CPU seconds of this process)."""
    before = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work), time.process_time() - before


def _steady(result: LoadResult, ramp: float, end: float) -> tuple[float, float]:
    """(fewest streams in flight, mean tokens per second) once as many streams end as begin."""
    windows = series(result, 1.0)
    inside = (windows.at >= ramp) & (windows.at < end - 1)
    in_flight = windows.in_flight[inside]
    return float(in_flight.min()), float(in_flight.mean()) * TOKENS_PER_SECOND


def _ms(seconds: float | None) -> float:
    return (seconds or 0.0) * 1000


@contextmanager
def _endpoint() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "bench.load"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


class _Answer(asyncio.Protocol):
    """Answers any POST with its `max_tokens` events at exact intervals."""

    def __init__(self) -> None:
        self._received = b""
        self._left = 0
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        _, found, after = self._received.partition(b'"max_tokens":')
        if found and self._received.endswith(b"}") and not self._left:
            self._left = int(after.replace(b"}", b",").split(b",", 1)[0])
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self._transport.write(head)
            self._due = time.perf_counter()
            self._token()

    def _token(self) -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        payload = _EVENT if self._left else _LAST
        chunk = b"%x\r\n%s\r\n" % (len(payload), payload)
        if not self._left:
            self._transport.write(chunk + b"0\r\n\r\n")
            self._transport.close()
            return
        self._transport.write(chunk)
        self._due += 1 / TOKENS_PER_SECOND
        asyncio.get_running_loop().call_later(max(self._due - time.perf_counter(), 0.0), self._token)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answer, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
