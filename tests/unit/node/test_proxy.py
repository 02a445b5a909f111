"""The proxy over real sockets: replacement of a pod that is gone, headers, bodies, what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from plimsoll_cli.sandbox.node.front.balance import Backend
from plimsoll_cli.sandbox.node.front.proxy import BUFFERED_BODY_BYTES, Proxy, new_session
from plimsoll_cli.sandbox.node.front.table import Route, RouteTable

FRONT, ENGINE, OTHER = "127.62.0.1", "127.62.0.2", "127.62.0.3"


@contextlib.asynccontextmanager
async def serving(address: str, handler: Any) -> AsyncIterator[int]:
    """A server on a free port of an address."""
    server = web.Server(handler, access_log=None, handler_cancellation=True)
    listening = await asyncio.get_running_loop().create_server(server, address, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(0.1)


async def echo(request: web.BaseRequest) -> web.Response:
    """The request as JSON, with headers of its own."""
    body = await request.content.read()
    content = {
        "path": request.raw_path,
        "headers": dict(request.headers),
        "length": len(body),
        "method": request.method,
    }
    return web.json_response(content, headers={"X-Engine": "yes"}, status=201)


@pytest.fixture
async def front() -> AsyncIterator[tuple[RouteTable, Proxy, str, int]]:
    """A front without routes."""
    table = RouteTable()
    async with new_session() as session:
        proxy = Proxy(table, session)
        async with serving(FRONT, proxy.handle) as port:
            yield table, proxy, f"http://{FRONT}:{port}", port


def lead(table: RouteTable, port: int, *backends: Backend) -> None:
    """The front's address leads to these."""
    table.routes[(FRONT, port)] = Route("n/s", backends)


async def test_a_request_passes_whole(front: Any) -> None:
    """Path, query, method, headers, body and status; hop-by-hop headers stay."""
    table, proxy, url, port = front
    async with serving(ENGINE, echo) as engine, aiohttp.ClientSession() as session:
        lead(table, port, Backend("a", ENGINE, engine))
        for size in (0, 1000, BUFFERED_BODY_BYTES + 1):
            headers = {"X-Mine": "1", "Connection": "X-Private", "X-Private": "2"}
            async with session.post(
                f"{url}/v1/a%2Fb?c=%20d", data=io.BytesIO(b"x" * size), headers=headers
            ) as response:
                answer = await response.json()
                assert (response.status, response.headers["X-Engine"]) == (201, "yes")
            assert answer["path"] == "/v1/a%2Fb?c=%20d"
            assert (answer["length"], answer["method"]) == (size, "POST")
            assert answer["headers"]["X-Mine"] == "1"
            assert answer["headers"]["X-Forwarded-For"].startswith("127.")
            assert "X-Private" not in answer["headers"]
        assert not proxy.outstanding


async def test_a_pod_that_does_not_accept_is_replaced(front: Any) -> None:
    """Once, whichever is tried first; when none accepts, 502 with the address."""
    table, proxy, url, port = front
    async with serving(ENGINE, echo) as engine, aiohttp.ClientSession() as session:
        gone = Backend("gone", OTHER, engine)
        lead(table, port, gone, Backend("a", ENGINE, engine))
        for _ in range(4):
            async with session.post(f"{url}/x", data=b"body") as response:
                assert response.status == 201
        lead(table, port, gone)
        async with session.get(f"{url}/x") as response:
            assert response.status == 502
            assert OTHER in (await response.json())["error"]["message"]
        assert not proxy.outstanding


async def test_a_pod_whose_queue_is_full_is_replaced() -> None:
    """Nothing was sent to it, so that even a POST is sent to another; alone, it is named."""
    table = RouteTable()
    with socket.create_server((OTHER, 0), backlog=0) as listening, socket.create_connection(listening.getsockname()):
        full = Backend("full", *listening.getsockname())
        async with (
            new_session(0.2) as to_pods,
            aiohttp.ClientSession() as session,
            serving(ENGINE, echo) as engine,
            serving(FRONT, Proxy(table, to_pods).handle) as port,
        ):
            lead(table, port, full)
            async with session.post(f"http://{FRONT}:{port}/x", data=b"body") as response:
                assert response.status == 502
                assert OTHER in (await response.json())["error"]["message"]
            lead(table, port, full, Backend("a", ENGINE, engine))
            for _ in range(2):
                async with session.post(f"http://{FRONT}:{port}/x", data=b"body") as response:
                    assert response.status == 201


async def test_a_request_that_may_have_begun_is_not_sent_twice(front: Any) -> None:
    """A pod that closes the connection after reading a POST: 502; a GET is tried on another pod."""
    table, _, url, port = front
    seen: list[str] = []

    async def drop(request: web.BaseRequest) -> web.Response:
        await request.read()
        seen.append(request.method)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(ENGINE, drop) as a, serving(OTHER, drop) as b, aiohttp.ClientSession() as session:
        lead(table, port, Backend("a", ENGINE, a), Backend("b", OTHER, b))
        async with session.post(f"{url}/x", data=b"body") as response:
            assert response.status == 502
        assert seen == ["POST"]


async def test_refusals(front: Any) -> None:
    """No route, no pod, an upgrade: JSON that an OpenAI client reads."""
    table, _, url, port = front
    async with aiohttp.ClientSession() as session:
        for expected, headers in ((503, {}), (501, {"Upgrade": "websocket", "Connection": "Upgrade"})):
            async with session.get(f"{url}/x", headers=headers) as response:
                assert response.status == expected
                assert (await response.json())["error"]["code"] == expected
        lead(table, port)
        async with session.get(f"{url}/x") as response:
            assert (await response.json())["error"]["message"] == "service n/s has no ready pod"


async def test_events_arrive_one_by_one(front: Any) -> None:
    """Each is there before the next is sent: nothing is held back."""
    table, proxy, url, port = front
    proceed = asyncio.Event()

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for index in range(5):
            await response.write(f"data: {index}\n\n".encode())
            await proceed.wait()
            proceed.clear()
        return response

    async with serving(ENGINE, stream) as engine, aiohttp.ClientSession() as session:
        lead(table, port, Backend("a", ENGINE, engine))
        async with session.get(url) as response:
            for index in range(5):
                assert await response.content.readuntil(b"\n\n") == f"data: {index}\n\n".encode()
                assert proxy.outstanding == {"a": 1}
                proceed.set()
            assert await response.content.read() == b""
