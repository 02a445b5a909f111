"""A local OpenAI-like endpoint that behaves, or misbehaves, as a test asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(text: str, finish: str | None = None) -> bytes:
    """One event of a completion stream, worded as vLLM words it."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    body = json.dumps({"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice]})
    return b"data: " + body.encode() + b"\n\n"


@dataclass
class Endpoint:
    """The endpoint: set `behaviour` to change what it does; `bodies` are the requests it got."""

    url: str = ""
    behaviour: str = "good"
    token_gap: float = 0.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[dict[str, object]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def open_gate_at(self, count: int) -> None:
        """Let stalled requests go on once `count` of them wait."""
        while self.in_flight < count:
            await asyncio.sleep(0.005)
        self.gate.set()

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            return await self._answer(request, body)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, body: dict[str, int]) -> web.StreamResponse:
        count = body["max_tokens"]
        if self.behaviour == "refuse":
            return web.json_response({"error": {"message": "too many requests are queued"}}, status=503)
        if self.behaviour == "stall":
            await self.gate.wait()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.behaviour == "error event":
            await response.write(b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\ndata: [DONE]\n\n')
            return response
        for index in range(count - 1):
            if self.behaviour == "cut" and index == count // 2:
                assert request.transport is not None
                request.transport.abort()
                return response
            if self.behaviour == "end early" and index == count // 2:
                return response
            await response.write(event(" a"))
            if self.token_gap:
                await asyncio.sleep(self.token_gap)
        if self.behaviour == "abort":
            await response.write(event("", "abort") + b"data: [DONE]\n\n")
            return response
        short = self.behaviour == "short"
        await response.write(event("" if short else " z", "length"))
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count - short}  # type: ignore[arg-type]
        await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
        return response


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """A running endpoint on a free port."""
    served = Endpoint()
    application = web.Application(client_max_size=2**26)
    application.add_routes([web.get("/v1/models", served.models), web.post("/v1/completions", served.completions)])
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    served.gate.set()
    await runner.cleanup()
