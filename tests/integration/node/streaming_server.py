"""A small serving process for the front's tests: /health, /whoami, and /stream as server-sent events.

A stream goes on for as long as its client does, or until there is the file that `/stream?until=FILE` names.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os

from aiohttp import web

PAUSE_SECONDS = 0.05


async def health(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def whoami(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {"pod": os.environ["HOSTNAME"], "length": len(body), "gpus": os.environ["NVIDIA_VISIBLE_DEVICES"]}
    )


def goes_on(request: web.Request) -> bool:
    return not os.path.exists(request.query.get("until", ""))


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        for index in itertools.takewhile(lambda _: goes_on(request), itertools.count()):
            payload = json.dumps({"pod": os.environ["HOSTNAME"], "index": index})
            await response.write(f"data: {payload}\n\n".encode())
            await asyncio.sleep(PAUSE_SECONDS)
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
        shutdown_timeout=100,
    )  # fmt: skip


if __name__ == "__main__":
    main()
