"""Running a load test: every request at its scheduled time, whatever the others do."""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from plimsoll_cli.load.connection import CompletionStream, Endpoint, clock, resolve
from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.plan import PATHS, LoadPlan, Progress
from plimsoll_cli.load.prompts import Bodies
from plimsoll_cli.load.records import LoadResult, Outcome, Record, Records

_LEAD_SECONDS: Final = 0.05
"""From the end of the preparations to second 0, so that the first request is not late."""
_HEARTBEAT_SECONDS: Final = 0.02
"""How often the event loop's own delay is sampled."""
_SALT_BITS: Final = 31


async def run_load(
    plan: LoadPlan,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    stop: asyncio.Event | None = None,
) -> LoadResult:
    """Send the plan's requests and gather what came back.

    Requests are open-loop: each is sent at its scheduled time, and its latency counts from that time, so a server that
    stalls is charged for every request that would have arrived meanwhile (no coordinated omission). Returns when every
    request has ended or timed out.

    Args:
        plan: what to send.
        on_progress: called on the event loop about every `plan.progress_interval`; must return quickly.
        stop: when set, nothing more is sent, requests in flight are dropped and the result so far is returned.

    Raises:
        ValueError: the URL cannot be used.
        OSError: the host name does not resolve.
        asyncio.CancelledError: the caller cancelled; every connection is closed first.
    """
    endpoint = await resolve(plan.url, PATHS[plan.api], plan.api_key)
    salt = secrets.randbits(_SALT_BITS) if plan.salt is None else plan.salt
    run = _Run(replace(plan, salt=salt), endpoint, on_progress)
    # A full garbage collection walks every object of every imported library: 55 ms measured, in which nothing is sent
    # or stamped. What exists before the run is left out of it.
    gc.collect()
    gc.freeze()
    try:
        return await run.run(stop)
    finally:
        gc.unfreeze()


class _Run:
    """The state of one running test."""

    def __init__(self, plan: LoadPlan, endpoint: Endpoint, on_progress: Callable[[Progress], None] | None) -> None:
        assert plan.salt is not None
        self._plan = plan
        self._endpoint = endpoint
        self._on_progress = on_progress
        self._bodies = Bodies(plan, plan.salt)
        self._records = [Record(r.at_seconds, r.input_tokens, r.output_tokens) for r in plan.requests]
        self._gaps = Histogram()
        self._ttft = Histogram()
        self._lag = Histogram()
        self._loop_delay = Histogram()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._ended = dict.fromkeys(Outcome, 0)
        self._sent = 0
        self._reported = (0.0, 0)  # when progress was last told, and how many requests had been sent
        self._start = 0.0

    async def run(self, stop: asyncio.Event | None) -> LoadResult:
        self._start = clock() + _LEAD_SECONDS
        started_at = time.time() + _LEAD_SECONDS
        sending = asyncio.create_task(self._send_all())
        companions = [asyncio.create_task(self._heartbeat())]
        if self._on_progress is not None:
            companions.append(asyncio.create_task(self._tell_progress(self._on_progress)))
        stopping = asyncio.create_task(stop.wait()) if stop is not None else None
        try:
            await asyncio.wait({sending, stopping} if stopping else {sending}, return_when=asyncio.FIRST_COMPLETED)
            interrupted = not sending.done()
            if not interrupted:
                sending.result()  # raises what went wrong in here, were there a bug
        finally:
            tasks = [sending, *companions, *([stopping] if stopping else []), *self._in_flight]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._on_progress is not None:
            self._on_progress(self._progress())
        return LoadResult(
            plan=self._plan,
            started_at=started_at,
            elapsed=self._now(),
            interrupted=interrupted,
            records=Records.of(self._records),
            inter_token=self._gaps,
            loop_delay=self._loop_delay,
        )

    def _now(self) -> float:
        """Seconds since second 0 of the test."""
        return clock() - self._start

    async def _send_all(self) -> None:
        """Start every request at its time, then wait for the last to end."""
        for index, record in enumerate(self._records):
            while (delay := record.scheduled - self._now()) > 0:
                await asyncio.sleep(delay)
            record.dispatched = self._now()
            self._lag.record(record.dispatched - record.scheduled)
            self._sent += 1
            task = asyncio.create_task(self._one(index, record))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        if self._in_flight:
            await asyncio.wait(set(self._in_flight))

    async def _one(self, index: int, record: Record) -> None:
        """Send one request and fill in its record."""
        body = self._bodies.of(index)
        head = self._endpoint.head(len(body))
        stream = CompletionStream(head + body, record.output_tokens, self._gaps, lambda now: self._first(record, now))
        problem: str | None = None
        try:
            async with asyncio.timeout(record.scheduled + self._plan.timeout - self._now()) as deadline:
                await self._connect(index, stream)
                await stream.finished
        except OSError as error:  # TimeoutError is one
            late = deadline.expired()
            record.outcome = Outcome.TIMED_OUT if late else Outcome.FAILED
            problem = f"no whole answer within {self._plan.timeout:g} s" if late else _connect_error(error)
        else:
            problem = stream.verdict()
            record.outcome = _outcome(stream, problem)
        finally:
            stream.close()
            self._fill(record, stream, problem)

    async def _connect(self, index: int, stream: CompletionStream) -> None:
        endpoint = self._endpoint
        address = endpoint.addresses[index % len(endpoint.addresses)]
        name = endpoint.host if endpoint.tls else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: stream, address, endpoint.port, ssl=endpoint.tls, server_hostname=name)

    def _first(self, record: Record, now: float) -> None:
        record.first_token = now - self._start
        self._ttft.record(record.first_token - record.scheduled)

    def _fill(self, record: Record, stream: CompletionStream, problem: str | None) -> None:
        events = stream.events
        if stream.sent_at is not None:
            record.sent = stream.sent_at - self._start
        if events.last_at is not None:
            record.last_token = events.last_at - self._start
        record.ended = self._now()
        record.tokens, record.prompt_tokens = events.tokens, events.prompt_tokens
        record.status = stream.response.status
        record.error = problem or ""
        self._ended[record.outcome] += 1

    async def _heartbeat(self) -> None:
        """Sample how late the event loop runs: what arrives while it is late is stamped late."""
        while True:
            before = clock()
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            self._loop_delay.record(clock() - before - _HEARTBEAT_SECONDS)

    async def _tell_progress(self, tell: Callable[[Progress], None]) -> None:
        while True:
            await asyncio.sleep(self._plan.progress_interval)
            tell(self._progress())

    def _progress(self) -> Progress:
        now = self._now()
        (before, sent_before), self._reported = self._reported, (now, self._sent)
        ended = self._ended
        return Progress(
            elapsed=now,
            duration=self._plan.duration,
            planned=len(self._records),
            sent=self._sent,
            in_flight=self._sent - sum(ended.values()),
            completed=ended[Outcome.COMPLETED],
            failed=ended[Outcome.FAILED] + ended[Outcome.TIMED_OUT],
            truncated=ended[Outcome.TRUNCATED],
            offered_rate=(self._sent - sent_before) / max(now - before, 1e-3),
            ttft_p95=self._ttft.percentile(95),
            lag_p99=self._lag.percentile(99) or 0.0,
        )


def _outcome(stream: CompletionStream, problem: str) -> Outcome:
    """How an answered request ended: what broke after a 200 left its reader with half an answer."""
    if not problem:
        return Outcome.COMPLETED
    began = stream.response.status == 200 and (stream.events.events > 0 or not stream.events.error)
    return Outcome.TRUNCATED if began else Outcome.FAILED


def _connect_error(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"connection failed: {error.strerror or error}"
