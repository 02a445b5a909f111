"""The simulated engine as a process: start, faults, disconnects, drain."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import aiohttp
import pytest

Start = Callable[..., Any]
LONG = {"model": "m", "prompt": [1] * 20, "max_tokens": 4000, "ignore_eos": True, "stream": True}
SHORT = {"model": "m", "prompt": "hello", "max_tokens": 5, "ignore_eos": True}


async def sample(session: aiohttp.ClientSession, url: str, name: str) -> float:
    """A sample of /metrics by the start of its line."""
    async with session.get(f"{url}/metrics") as response:
        found = re.search(rf"^{re.escape(name)}[^ ]* (\S+)$", await response.text(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for an asynchronous condition."""
    end = time.monotonic() + 20  # less than a long answer takes
    while not await condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


async def post(session: aiohttp.ClientSession, url: str, body: Any) -> tuple[int, Any]:
    """Status and JSON of a completion."""
    async with session.post(f"{url}/v1/completions", json=body) as response:
        return response.status, await response.json()


def events(text: str) -> list[str]:
    """Data of server-sent events."""
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


async def test_the_port_opens_after_the_startup_delay(engine: Start) -> None:
    process = engine("--startup-delay", "0.7")
    started, listening = (
        datetime.fromisoformat(str(process.wait_for(event)["time"])) for event in ("starting", "listening")
    )
    assert (listening - started).total_seconds() > 0.6
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/health") as response:
        assert response.status == 200


def test_a_failing_start_says_why_and_exits_with_1(engine: Start) -> None:
    process = engine("--fail-startup", "no luck")
    assert process.process.wait(60) == 1
    assert "no luck" in process.log.read_text()


def test_a_model_that_does_not_fit_exits_with_1(engine: Start) -> None:
    process = engine("--gpu", "NVIDIA-L4", "--gpu-memory-utilization", "0.5")
    assert process.process.wait(60) == 1
    assert "No available memory for the cache blocks" in process.log.read_text()


async def test_a_stall_stops_tokens_but_not_health(engine: Start) -> None:
    url = engine("--enable-admin").url
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/admin/faults", json={"stalled": True}) as response:
            assert (await response.json())["stalled"] is True
        waiting = asyncio.create_task(post(session, url, SHORT))

        async def taken() -> bool:
            return await sample(session, url, "vllm:num_requests_running") == 1

        await until(taken, "the request is not taken")
        await asyncio.sleep(0.3)
        assert not waiting.done()
        async with session.get(f"{url}/health") as response:
            assert response.status == 200
        await session.post(f"{url}/admin/faults", json={"stalled": False})
        assert (await waiting)[0] == 200


async def test_errors_and_slowness_are_injected(engine: Start) -> None:
    url = engine("--error-rate", "0.5", "--enable-admin").url
    async with aiohttp.ClientSession() as session:
        statuses = [(await post(session, url, {**SHORT, "max_tokens": 1}))[0] for _ in range(40)]
        assert 5 < statuses.count(500) < 35
        await session.post(f"{url}/admin/faults", json={"error_rate": 0, "slowdown": 20})
        began = time.monotonic()
        await post(session, url, SHORT)
        # A step of this model takes 7 ms or so.
        assert time.monotonic() - began > 0.3
        async with session.post(f"{url}/admin/faults", json={"nonsense": 1}) as response:
            assert response.status == 400


async def test_a_prompt_of_megabytes_is_read(engine: Start) -> None:
    """A context of a million tokens as ids: what it does not fit in is the model, not the server."""
    url = engine().url
    body = io.BytesIO(json.dumps({**SHORT, "prompt": [128_000] * 400_000}).encode())
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{url}/v1/completions", data=body) as response,
    ):
        assert response.status == 400
        assert "maximum context length" in (await response.json())["error"]["message"]


async def test_admin_is_off_by_default(engine: Start) -> None:
    url = engine().url
    async with aiohttp.ClientSession() as session, session.post(f"{url}/admin/faults", json={}) as response:
        assert response.status == 404


async def test_a_client_that_leaves_frees_its_blocks(engine: Start) -> None:
    url = engine().url
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{url}/v1/completions", json=LONG)
        await response.content.readany()

        async def usage() -> float:
            return await sample(session, url, "vllm:kv_cache_usage_perc")

        assert await usage() > 0
        response.close()

        async def free() -> bool:
            return await usage() == 0

        await until(free, "blocks are still held")
        assert await sample(session, url, "vllm:num_requests_running") == 0


async def test_a_stream_has_every_token_once_and_in_order(engine: Start) -> None:
    url = engine().url
    async with aiohttp.ClientSession() as session:
        body = {**LONG, "max_tokens": 60}
        _, whole = await post(session, url, {**body, "stream": False})
        async with session.post(f"{url}/v1/completions", json=body) as response:
            found = events(await response.text())
    assert found[-1] == "[DONE]"
    texts = [json.loads(event)["choices"][0]["text"] for event in found[:-1]]
    assert len(texts) == 60
    assert "".join(texts) == whole["choices"][0]["text"]


async def test_draining_finishes_streams_and_refuses_new_requests(engine: Start) -> None:
    process = engine("--shutdown-timeout", "60", "--enable-admin")
    async with aiohttp.ClientSession() as session:
        body = {**LONG, "max_tokens": 150}
        streams = [await session.post(f"{process.url}/v1/completions", json=body) for _ in range(50)]
        # However slow this test is, some streams are not done before it has looked.
        await session.post(f"{process.url}/admin/faults", json={"stalled": True})
        streams.append(await session.post(f"{process.url}/v1/completions", json=body))
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("draining")
        status, refused = await post(session, process.url, SHORT)
        assert (status, refused["error"]["type"]) == (500, "InternalServerError")
        async with session.get(f"{process.url}/health") as response:
            assert response.status == 200
        await session.post(f"{process.url}/admin/faults", json={"stalled": False})
        for stream in streams:
            found = events(await stream.text())
            assert (len(found), found[-1]) == (151, "[DONE]")
    assert process.process.wait(60) == 0


async def test_without_a_timeout_sigterm_aborts_at_once(engine: Start) -> None:
    process = engine("--enable-admin")
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{process.url}/v1/completions", json=LONG)
        await response.content.readany()
        # Stalled, it can only be aborted: it would never be finished.
        await session.post(f"{process.url}/admin/faults", json={"stalled": True})
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0
        with pytest.raises(aiohttp.ClientError):
            await response.text()


async def test_api_keys_guard_v1_only(engine: Start) -> None:
    url = engine("--api-key", "secret").url
    async with aiohttp.ClientSession() as session:
        assert (await post(session, url, SHORT))[0] == 401
        async with session.get(f"{url}/metrics") as response:
            assert response.status == 200
        headers = {"Authorization": "Bearer secret"}
        async with session.post(f"{url}/v1/completions", json=SHORT, headers=headers) as response:
            assert response.status == 200


async def test_prefixes_are_cached_between_requests(engine: Start) -> None:
    url = engine().url
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            await post(session, url, {**SHORT, "prompt": "x" * 800})
        assert await sample(session, url, "vllm:prefix_cache_queries_total") == 400
        assert await sample(session, url, "vllm:prefix_cache_hits_total") == 192
