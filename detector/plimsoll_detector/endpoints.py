"""Health and metrics over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

logger = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""What is wrong, in one line; None when all is well."""

# The text format's version, as Prometheus' exposition-format documentation gives it.
_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


def health_app(alive: Check, ready: Check) -> web.Application:
    """`/healthz`: restart me when this fails. `/readyz`: I have what I need."""

    def answer(check: Check) -> Callable[[web.Request], object]:
        async def handle(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(status=500, text=problem + "\n") if problem else web.Response(text="ok\n")

        return handle

    app = web.Application()
    app.router.add_get("/healthz", answer(alive))  # type: ignore[arg-type]
    app.router.add_get("/readyz", answer(ready))  # type: ignore[arg-type]
    return app


def metrics_app(registry: CollectorRegistry) -> web.Application:
    """`/metrics` in Prometheus' text format."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": _TEXT_FORMAT})

    app = web.Application()
    app.router.add_get("/metrics", handle)
    return app


async def serve(stack: AsyncExitStack, what: str, app: web.Application, address: str, port: int) -> int:
    """Serve an application until the stack is closed, log where, and return the port.

    Raises:
        OSError: the port is taken.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address or None, port, shutdown_timeout=1.0)
    await site.start()
    bound = int(runner.addresses[0][1])
    logger.info("listening", extra={"event": "listening", "what": what, "port": bound})
    return bound
