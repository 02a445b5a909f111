"""The Service front: Ready pods only, least outstanding requests, streams intact and drained."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("node_agent")]


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
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
        },
        labels={"app": "chat"},
        terminationGracePeriodSeconds=20,
    )


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


async def url_of(space: Any, name: str) -> str:
    """The Service's address, once the front answers there."""
    found = await asyncio.to_thread(space.kubectl.json, "get", "service", name, "-n", space.name)
    address = found["spec"]["clusterIP"]
    deadline = time.monotonic() + 10
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
    """Name of the pod that answers."""
    async with session.post(f"{url}/whoami", data=b"x" * 1000) as response:
        answer = await response.json()
        assert answer["length"] == 1000
        return str(answer["pod"])


async def test_front(space: Any) -> None:
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

        streaming = await session.get(f"{url}/stream?events=60&pause=0.1")
        first = json.loads((await streaming.content.readuntil(b"\n\n"))[6:])
        assert {await who(session, url) for _ in range(6)} == {"a", "b"} - {first["pod"]}  # least outstanding

        space.kubectl("delete", "pod", first["pod"], "-n", space.name, "--wait=false")
        deadline = time.monotonic() + 2  # for the watch to bring the deletion
        while await who(session, url) == first["pod"] or await who(session, url) == first["pod"]:
            assert time.monotonic() < deadline
        others = [await who(session, url) for _ in range(10)]
        assert set(others) == {"a", "b"} - {first["pod"]}
        rest = await events_of(streaming)
        assert rest[-1] == "[DONE]"
        assert [json.loads(event)["index"] for event in rest[:-1]] == list(range(1, 60))


async def _until_both(session: aiohttp.ClientSession, url: str) -> None:
    """Until the front has seen that both pods are Ready."""
    deadline = time.monotonic() + 5
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
        while True:
            response = await session.get(f"{url}/stream?events=1000&pause=0.05")
            if response.status == 200:
                break
        await response.content.readuntil(b"\n\n")
        response.close()
    deadline = time.monotonic() + 3
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
        while (response := await session.get(f"{url}/stream?events=1000&pause=0.05")).status != 200:
            await asyncio.sleep(0.05)
        await response.content.readuntil(b"\n\n")
        space.kubectl("delete", "pod", "a", "-n", space.name, "--grace-period=0", "--force")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
