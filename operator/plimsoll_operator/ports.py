"""The ports that kubelet and Prometheus ask: `/healthz` and `/readyz` on one, `/metrics` on the other."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

logger = logging.getLogger(__name__)

BIND_VARIABLE: Final = "PLIMSOLL_BIND_ADDRESS"
"""Address that a serving process binds; all interfaces when absent."""


async def serve_health(port: int, problems: Callable[[], list[str]], ready: Callable[[], bool]) -> web.AppRunner:
    """Answer `/healthz` (500 with the reasons when something is wrong) and `/readyz`."""

    async def healthz(_: web.Request) -> web.Response:
        found = problems()
        return web.Response(status=500 if found else 200, text="\n".join(found) or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if ready() else 503, text="ok" if ready() else "no answer from the API server")

    return await _serve("health", port, {"/healthz": healthz, "/readyz": readyz})


async def serve_metrics(port: int, registry: CollectorRegistry) -> web.AppRunner:
    """Answer `/metrics`."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return await _serve("metrics", port, {"/metrics": metrics})


async def _serve(what: str, port: int, routes: dict[str, Callable[[web.Request], object]]) -> web.AppRunner:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, _listening(os.environ.get(BIND_VARIABLE, ""), port)).start()
    bound = runner.addresses[0][1]
    logger.info("listening", extra={"what": what, "port": bound})
    return runner


def _listening(address: str, port: int) -> socket.socket:
    """One socket for IPv4 and IPv6: with a port of 0, two would get different ports."""
    if not address and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)
