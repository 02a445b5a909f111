"""The Service front: Ready pods only, least outstanding requests, streams intact and drained."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("node_agent")]

PATIENCE_SECONDS = 60.0
"""What takes a second on an idle machine, on one that is sixty times too slow."""


def service(name: str, target: int | str) -> dict[str, Any]:
    """A Service on port 8000 that selects app=chat."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "chat"}, "ports": [{"name": "http", "port": 8000, "targetPort": target}]},
    }


def engine(space: Any, name: str) -> None:
    """A serving pod."""
    space.run(
        name,
        {
            "image": "vllm/vllm-openai:v0.32.0",
            "command": ["vllm", "serve"],
            "args": ["model"],
            "ports": [{"name": "http", "containerPort": 8000}],
            # An answer that takes more than the usual second must not take a pod out of the rotation.
            "readinessProbe": {
                "httpGet": {"path": "/health", "port": "http"},
                "periodSeconds": 1,
                "timeoutSeconds": 30,
            },
        },
        labels={"app": "chat"},
        terminationGracePeriodSeconds=120,
    )


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


async def url_of(space: Any, name: str) -> str:
    """The Service's address, once the front answers there."""
    found = await asyncio.to_thread(space.kubectl.json, "get", "service", name, "-n", space.name)
    address = found["spec"]["clusterIP"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection(address, 8000)
            writer.close()
            return f"http://{address}:8000"
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def events_of(response: aiohttp.ClientResponse) -> list[str]:
    """The payloads of a stream of server-sent events."""
    return [line[6:].decode().strip() async for line in response.content if line.startswith(b"data: ")]


async def who(session: aiohttp.ClientSession, url: str) -> str:
    """Name of the pod that answers; empty when none does, yet or because the one chosen is just going."""
    async with session.post(f"{url}/whoami", data=b"x" * 1000) as response:
        if response.status != 200:
            return ""
        answer = await response.json()
        assert answer["length"] == 1000
        return str(answer["pod"])


async def opened(session: aiohttp.ClientSession, url: str, query: str = "") -> aiohttp.ClientResponse:
    """A stream, once the front has seen that a pod is Ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (response := await session.get(f"{url}/stream{query}")).status != 200:
        assert time.monotonic() < deadline
        response.release()
        await asyncio.sleep(0.05)
    return response


async def test_front(space: Any, tmp_path: Path) -> None:
    """503 without pods; both target port forms; even shares; an unready pod is left; a deleted one drains."""
    space.apply(service("chat", "http"), service("by-number", 8000))
    url, by_number = await url_of(space, "chat"), await url_of(space, "by-number")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/health") as response:
            assert response.status == 503
            assert "no ready pod" in (await response.json())["error"]["message"]
        for name in ("a", "b"):
            engine(space, name)
        for name in ("a", "b"):
            await asyncio.to_thread(space.until, name, is_ready)
        await _until_both(session, url)
        shares = Counter([await who(session, url) for _ in range(20)])
        assert shares == {"a": 10, "b": 10}
        assert await who(session, by_number) in ("a", "b")

        finish = tmp_path / "finish"
        streaming = await opened(session, url, f"?until={finish}")
        first = json.loads((await streaming.content.readuntil(b"\n\n"))[6:])
        remaining = {"a", "b"} - {first["pod"]}
        assert {await who(session, url) for _ in range(6)} == remaining  # least outstanding
        level = await opened(session, url)  # with as many on the other, only the deletion leaves the first out
        assert {await who(session, url) for _ in range(6)} == {"a", "b"}

        space.kubectl("delete", "pod", first["pod"], "-n", space.name, "--wait=false")
        deadline = time.monotonic() + PATIENCE_SECONDS  # for the watch to bring the deletion
        while {await who(session, url) for _ in range(4)} != remaining:
            assert time.monotonic() < deadline
        others = [await who(session, url) for _ in range(10)]
        assert set(others) == remaining
        level.close()
        finish.touch()  # only now may the stream of the deleted pod end
        rest = await events_of(streaming)
        assert rest[-1] == "[DONE]"
        indices = [json.loads(event)["index"] for event in rest[:-1]]
        assert indices == list(range(1, len(rest)))
        assert indices


async def _until_both(session: aiohttp.ClientSession, url: str) -> None:
    """Until the front has seen that both pods are Ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while {await who(session, url) for _ in range(4)} != {"a", "b"}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_client_that_leaves_is_told_to_the_engine(space: Any) -> None:
    """The connection to the pod is closed at once, so that the engine aborts the request."""
    space.apply(service("chat", "http"))
    url = await url_of(space, "chat")
    engine(space, "a")
    await asyncio.to_thread(space.until, "a", is_ready)
    async with aiohttp.ClientSession() as session:
        response = await opened(session, url)
        await response.content.readuntil(b"\n\n")
        response.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "client went away" not in await asyncio.to_thread(space.logs, "a"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_pod_that_dies_mid_stream_cuts_the_connection(space: Any) -> None:
    """The client sees a truncated body, never a well-formed end."""
    space.apply(service("chat", "http"))
    url = await url_of(space, "chat")
    engine(space, "a")
    await asyncio.to_thread(space.until, "a", is_ready)
    async with aiohttp.ClientSession() as session:
        response = await opened(session, url)
        await response.content.readuntil(b"\n\n")
        space.kubectl("delete", "pod", "a", "-n", space.name, "--grace-period=0", "--force")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
