"""A small serving process for the front's tests: /health, and /stream?seconds=S&name=N as server-sent events."""

from __future__ import annotations

import asyncio
import json
import os

from aiohttp import web


async def health(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def whoami(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {"pod": os.environ["HOSTNAME"], "length": len(body), "gpus": os.environ["NVIDIA_VISIBLE_DEVICES"]}
    )


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        for index in range(int(request.query["events"])):
            payload = json.dumps({"pod": os.environ["HOSTNAME"], "index": index})
            await response.write(f"data: {payload}\n\n".encode())
            await asyncio.sleep(float(request.query.get("pause", "0.05")))
        await response.write(b"data: [DONE]\n\n")
    except (ConnectionError, asyncio.CancelledError):
        print("client went away", flush=True)
        raise
    return response


def main() -> None:
    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_route("*", "/whoami", whoami)
    app.router.add_get("/stream", stream)
    web.run_app(
        app, host=os.environ["PLIMSOLL_BIND_ADDRESS"], port=8000, handler_cancellation=True, print=None,
        shutdown_timeout=20,
    )  # fmt: skip


if __name__ == "__main__":
    main()
