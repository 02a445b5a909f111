"""What the sandbox's Service front costs: events per second of CPU, added delay, requests per second of CPU.

Engine, front and client are three processes. The front's cost is read from its own CPU time, so that the figure is what
one core would carry even where engine and client leave it less than one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median, quantiles
from typing import Any

import aiohttp
import uvloop
from aiohttp import web

from bench.figures import Context, Figure
from plimsoll_cli.sandbox.node.front.proxy import Proxy, new_session
from plimsoll_cli.sandbox.node.front.table import RouteTable

ENGINE_ADDRESS, FRONT_ADDRESS = "127.63.1.1", "127.63.2.1"
STREAMS = 100
EVENTS_PER_SECOND = 40
"""Per stream: a token every 25 ms."""
_EVENT_PADDING = "x" * 150
"""A chat completion chunk of vLLM is about 200 bytes long."""


def run(context: Context) -> list[Figure]:
    """Measure."""
    seconds = 2.0 if context.quick else 10.0
    with _Running(_engine) as engine, _Running(_front, engine.port) as front:
        streams = uvloop.run(_streams(f"http://{FRONT_ADDRESS}:{front.port}", seconds))
        cpu = front.cpu_seconds()
        direct = uvloop.run(_streams(f"http://{ENGINE_ADDRESS}:{engine.port}", seconds))
        front.cpu_seconds()
        requests = uvloop.run(_requests(f"http://{FRONT_ADDRESS}:{front.port}", seconds / 2))
        request_cpu = front.cpu_seconds()
    added = [(median(streams) - median(direct)) * 1e3, (_p99(streams) - _p99(direct)) * 1e3]
    rate = f"{STREAMS} streams of {EVENTS_PER_SECOND} events/s for {seconds:g} s"
    return [
        Figure("front: SSE events per core", len(streams) / cpu, "events/s", 8000, ">=", f"{rate}, {cpu:.2f} s of CPU"),
        Figure("front: delay added to an event, median", added[0], "ms", detail=rate),
        Figure("front: delay added to an event, p99", added[1], "ms", detail=rate),
        Figure("front: requests per core", requests / request_cpu, "requests/s", detail="keep-alive, 1 kB bodies"),
    ]


class _Running:
    """A server in a process of its own, ended on leaving."""

    def __init__(self, serve: Callable[..., None], *arguments: int) -> None:
        self.port = 0
        self._pipe, theirs = multiprocessing.Pipe()
        spawning = multiprocessing.get_context("spawn")
        self._process = spawning.Process(target=serve, args=(theirs, *arguments), daemon=True)

    def __enter__(self) -> _Running:
        self._process.start()
        self.port = self._pipe.recv()
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.join()

    def cpu_seconds(self) -> float:
        """CPU time since the last question."""
        self._pipe.send("cpu")
        spent: float = self._pipe.recv()
        return spent


def _engine(pipe: Connection) -> None:
    """Streams of events that carry the time they were sent."""

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/echo":
            return web.Response(body=await request.read())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for _ in range(int(request.query["events"])):
            due += 1 / EVENTS_PER_SECOND
            await asyncio.sleep(due - loop.time())
            await response.write(f"data: {time.monotonic_ns()} {_EVENT_PADDING}\n\n".encode())
        return response

    uvloop.run(_serve(pipe, ENGINE_ADDRESS, lambda _: web.Server(stream, access_log=None)))


def _front(pipe: Connection, engine_port: int) -> None:
    """The front with one route."""

    def make(port: int) -> web.Server:
        table = RouteTable()
        labels = {"app": "engine"}
        ports = [{"port": port, "targetPort": engine_port}]
        table.service_changed(
            {
                "metadata": {"namespace": "n", "name": "s"},
                "spec": {"clusterIP": FRONT_ADDRESS, "selector": labels, "ports": ports},
            },
            deleted=False,
        )
        status = {"podIP": ENGINE_ADDRESS, "conditions": [{"type": "Ready", "status": "True"}]}
        metadata = {"namespace": "n", "name": "p", "uid": "1", "labels": labels}
        table.pod_changed({"metadata": metadata, "spec": {"containers": []}, "status": status}, deleted=False)
        return web.Server(Proxy(table, new_session()).handle, access_log=None, handler_cancellation=True)

    uvloop.run(_serve(pipe, FRONT_ADDRESS, make))


async def _serve(pipe: Connection, address: str, make: Callable[[int], web.Server]) -> None:
    """Serve until killed; answer how much CPU was used."""
    loop = asyncio.get_running_loop()
    listening = socket.create_server((address, 0), backlog=1024)
    port = listening.getsockname()[1]
    await loop.create_server(make(port), sock=listening)
    before = time.process_time()
    pipe.send(port)
    asked = asyncio.Event()
    loop.add_reader(pipe.fileno(), asked.set)
    while True:
        await asked.wait()
        asked.clear()
        pipe.recv()
        now = time.process_time()
        pipe.send(now - before)
        before = now


async def _streams(server: str, seconds: float) -> list[float]:
    """Seconds between sending and receiving of every event of all streams."""
    delays: list[float] = []
    url = f"{server}/stream?events={int(seconds * EVENTS_PER_SECOND)}"

    async def one(session: aiohttp.ClientSession, index: int) -> None:
        await asyncio.sleep(index / STREAMS / EVENTS_PER_SECOND)
        async with session.get(url) as response:
            async for chunk in response.content.iter_any():
                now = time.monotonic_ns()
                delays.extend((now - int(line.split()[1])) / 1e9 for line in chunk.split(b"\n\n") if line)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session, index) for index in range(STREAMS)))
    return delays


async def _requests(server: str, seconds: float) -> int:
    """Requests answered by 16 clients in a closed loop."""
    url, until, answered = f"{server}/echo", time.monotonic() + seconds, 0

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal answered
        while time.monotonic() < until:
            async with session.post(url, data=b"x" * 1000) as response:
                assert len(await response.read()) == 1000
            answered += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session) for _ in range(16)))
    return answered


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]
