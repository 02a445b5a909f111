"""The simulated engine's pace: tokens per second on one core, and its distance from the step-time model.

A separate, light client process opens streams at 105 requests/s of 100 tokens each and notes when each token arrives;
tokens are counted between the first quarter of the arrivals and their end, without ramp-up and tail. The model's own
inter-token times come from the same scheduler and step-time model run without a clock under the same arrivals.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import timeit
from functools import partial
from pathlib import Path
from typing import cast

import bench.figures
from plimsoll_recommender import EngineConfig, ModelFacts, StepLoad, StepTimeModel, accelerator
from plimsoll_recommender.scheduler import Request, Scheduler
from plimsoll_runtime.engine import sizing
from plimsoll_runtime.engine.http_metrics import HttpMetrics
from plimsoll_runtime.engine.metrics import EngineMetrics
from plimsoll_runtime.engine.settings import parse

ADDRESS = "127.0.0.1"
RATE = 105
"""Requests/s: a little more than the bar's 100, so that the count over a window is not decided by its edges."""
BAR = 10_000
OUTPUT_TOKENS = 100
PROMPT_TOKENS = 64
SECONDS = 20
QUICK_SECONDS = 3
ENGINE = ("Qwen/Qwen2.5-7B-Instruct", "--served-model-name", "bench", "--max-model-len", "4096")


def run(context: bench.figures.Context) -> list[bench.figures.Figure]:
    """Measure an engine process with a client process."""
    seconds = QUICK_SECONDS if context.quick else SECONDS
    output = context.output / "engine-tokens.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    process, port = start_engine(context.output / "engine.log")
    try:
        before = cpu_seconds(process.pid)
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "bench.engine", str(port), str(seconds), str(output)],
            check=True,
            timeout=seconds + 60,
        )
        busy = (cpu_seconds(process.pid) - before) / (time.monotonic() - began)
        said = (context.output / "engine.log").read_text().count("cannot keep up")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    measured = figures(json.loads(output.read_text()), model_gaps(seconds), busy, said, seconds)
    return [*measured, rendering(), predicting()]


def figures(
    measured: dict[str, object], model: list[float], busy: float, said: int, seconds: int
) -> list[bench.figures.Figure]:
    """The figures of one run."""
    gaps = measured["gaps"]
    assert isinstance(gaps, list)
    served, expected = statistics.median(gaps), statistics.median(model)
    detail = f"{RATE} requests/s of {OUTPUT_TOKENS} tokens for {seconds} s"
    return [
        bench.figures.Figure(
            "engine: tokens streamed",
            float(str(measured["tokens_per_second"])),
            "tokens/s",
            BAR,
            ">=",
            f"{detail}; offered {RATE * OUTPUT_TOKENS}",
        ),
        bench.figures.Figure(
            "engine: median inter-token time from the model's",
            abs(served - expected) * 1e3,
            "ms",
            5.0,
            "<=",
            f"served {served * 1e3:.2f}, model {expected * 1e3:.2f} ms; {detail}",
        ),
        bench.figures.Figure("engine: p99 inter-token time", percentile(gaps, 0.99) * 1e3, "ms", detail=detail),
        bench.figures.Figure("engine: share of one core", busy * 100, "%", 100.0, "<=", detail),
        bench.figures.Figure("engine: truncated streams", float(str(measured["truncated"])), "streams", 0, "=="),
        bench.figures.Figure("engine: said that it cannot keep up", float(said), "times", detail=detail),
    ]


def rendering() -> bench.figures.Figure:
    """How long the text of /metrics takes; while it is made, no step is."""
    metrics = EngineMetrics("m", 131072, {"block_size": "16"}, created=1.0)
    http = HttpMetrics(created=1.0)
    http.observe("/v1/completions", "POST", 200, 0.2, 100, 200)
    families = (*metrics.families, *http.families)

    def render() -> None:
        lines: list[str] = []
        for family in families:
            family.render(lines)
        "\n".join(lines)

    best = min(timeit.repeat(render, number=10, repeat=20)) / 10
    return bench.figures.Figure("engine: /metrics rendered", best * 1e3, "ms", 5.0, "<=", "best of 20 rounds")


def predicting() -> bench.figures.Figure:
    """How long the prediction of one step takes; the engine makes one for every step."""
    model = StepTimeModel.for_engine(ModelFacts.load("openai/gpt-oss-120b"), accelerator("H100"), EngineConfig())
    load = StepLoad(500, 500 * 800, 64, 64 * 1500, 64)
    best = min(timeit.repeat(lambda: model.seconds(load), number=2000, repeat=5)) / 2000
    return bench.figures.Figure("engine: a step's time predicted", best * 1e6, "us", 20.0, "<=", "best of 5 rounds")


def percentile(values: list[float], share: float) -> float:
    """A percentile by nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_engine(log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start an engine on any free port; returns it and the port."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "plimsoll_runtime.engine", *ENGINE, "--host", ADDRESS, "--port", "0"], stderr=file
        )
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r'"what": "http", "port": (\d+)', log.read_text())
        if found:
            return process, int(found[1])
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the engine did not start: {log.read_text()[-500:]}")


def model_gaps(seconds: int) -> list[float]:
    """Inter-token times of the model itself: the same arrivals, no clock."""
    plan = sizing.plan(parse(ENGINE, {})[0])
    scheduler = Scheduler(plan.scheduler)
    arrivals = [index / RATE for index in range(RATE * seconds)]
    now, following = 0.0, 0
    last: dict[str, float] = {}
    gaps: list[float] = []
    while following < len(arrivals) or not scheduler.idle:
        if scheduler.idle:
            now = max(now, arrivals[following])
        while following < len(arrivals) and arrivals[following] <= now:
            scheduler.add(Request(str(following), PROMPT_TOKENS, OUTPUT_TOKENS))
            following += 1
        step = scheduler.schedule()
        assert step is not None
        now += plan.step_times.seconds(step.load)
        for sequence in scheduler.complete(step).emitted:
            name = sequence.request.id
            if name in last:
                gaps.append(now - last[name])
            last[name] = now
    return gaps


class Client(asyncio.Protocol):
    """One stream: sends its request, counts `data:` lines, keeps the times between them."""

    def __init__(self, body: bytes, gaps: list[float], times: list[float], done: asyncio.Future[int]) -> None:
        self.body, self.gaps, self.times, self.done = body, gaps, times, done
        self.tokens = 0
        self.last = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # uvloop's transports are asyncio.Transports by duck typing only.
        sending = cast(asyncio.Transport, transport)
        head = (
            b"POST /v1/completions HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(self.body)
        )
        sending.write(head + self.body)

    def data_received(self, data: bytes) -> None:
        """Count tokens; several in one read came at one time."""
        now = time.monotonic()
        for _ in range(data.count(b"data: {")):
            if self.tokens:
                self.gaps.append(now - self.last)
            self.times.append(now)
            self.tokens += 1
            self.last = now

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closes after the stream."""
        if not self.done.done():
            self.done.set_result(self.tokens)


async def drive(port: int, seconds: int) -> dict[str, object]:
    """Open streams at their times and wait for all."""
    loop = asyncio.get_running_loop()
    gaps: list[float] = []
    times: list[float] = []
    ended: list[asyncio.Future[int]] = []
    bodies = {"model": "bench", "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "stream": True}
    began = time.monotonic()
    for index in range(RATE * seconds):
        await asyncio.sleep(began + index / RATE - time.monotonic())
        body = json.dumps({**bodies, "prompt": [index + 1] * PROMPT_TOKENS}).encode()
        done: asyncio.Future[int] = loop.create_future()
        ended.append(done)
        await loop.create_connection(partial(Client, body, gaps, times, done), ADDRESS, port)
    closed = time.monotonic()
    tokens = [await future for future in ended]
    opened = began + seconds / 4
    return {
        "tokens_per_second": sum(opened <= moment < closed for moment in times) / (closed - opened),
        "truncated": sum(count != OUTPUT_TOKENS for count in tokens),
        "gaps": gaps,
    }


if __name__ == "__main__":
    import uvloop

    Path(sys.argv[3]).write_text(json.dumps(uvloop.run(drive(int(sys.argv[1]), int(sys.argv[2])))))
