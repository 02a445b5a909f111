"""`plimsoll-engine MODEL [vLLM flags]`: a simulated vLLM."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import uvloop
from aiohttp import web

from plimsoll_api import json_log
from plimsoll_runtime.engine import cache_config, sizing
from plimsoll_runtime.engine.core import EngineCore
from plimsoll_runtime.engine.generation import Limits
from plimsoll_runtime.engine.metrics import EngineMetrics
from plimsoll_runtime.engine.server import MAX_BODY, EngineServer
from plimsoll_runtime.engine.settings import Settings, UsageError, parse

USAGE_EXIT: Final = 2
START_EXIT: Final = 1
"""vLLM's exit code for whatever keeps it from starting."""

GC_THRESHOLD: Final = 50_000
"""Allocations between garbage collections: they cost milliseconds, which streams would see."""

KEEP_ALIVE: Final = 5.0
"""Seconds an idle connection is kept (VLLM_HTTP_TIMEOUT_KEEP_ALIVE's default)."""

ABORT_GRACE: Final = 0.1
"""Seconds that responses whose last byte is due get to be written before connections are closed."""

log = logging.getLogger("plimsoll.engine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    json_log.configure()
    try:
        settings, ignored = parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        print(f"plimsoll-engine: error: {error}", file=sys.stderr)
        sys.exit(USAGE_EXIT)
    for flag in ignored:
        log.warning("flag ignored", extra={"flag": flag})
    try:
        uvloop.run(_serve(settings))
    except sizing.StartError as error:
        log.error(str(error))
        sys.exit(START_EXIT)
    except OSError as error:
        log.error("cannot listen", extra={"port": settings.port, "error": str(error)})
        sys.exit(START_EXIT)


async def _serve(settings: Settings) -> None:
    """Start, serve until SIGTERM or SIGINT, drain.

    Raises:
        StartError: the engine does not start.
    """
    began = time.monotonic()
    plan = sizing.plan(settings)
    fields = {
        "model": settings.model,
        "gpu": settings.gpu,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "kv_cache_tokens": plan.kv_cache_tokens,
        "max_num_seqs": plan.scheduler.max_num_seqs,
        "max_num_batched_tokens": plan.scheduler.max_num_batched_tokens,
        "startup_delay": settings.startup_delay,
    }
    log.info("starting", extra=fields)
    await asyncio.sleep(max(0.0, settings.startup_delay - (time.monotonic() - began)))
    if settings.fail_startup is not None:
        raise sizing.StartError(settings.fail_startup)
    started = time.time()
    limits = Limits(settings.served_model_names, plan.config.max_model_len, plan.scheduler.block_size, settings.seed)
    metrics = EngineMetrics(
        settings.served_model_names[0], plan.config.max_model_len, cache_config.labels(settings, plan), started
    )
    core = EngineCore(plan.scheduler, plan.step_times, metrics, settings.faults)
    server = EngineServer(settings, core, limits, started)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 50)
    await _run_until_stopped(settings, core, server)


async def _run_until_stopped(settings: Settings, core: EngineCore, server: EngineServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = asyncio.create_task(core.run())
    web_server = web.Server(
        server.handle,
        request_factory=functools.partial(web.BaseRequest, client_max_size=MAX_BODY, loop=loop),
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=KEEP_ALIVE,
    )
    runner = web.ServerRunner(web_server, shutdown_timeout=ABORT_GRACE)
    await runner.setup()
    site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
    await site.start()
    ports = sorted({address[1] for address in runner.addresses})
    log.info("listening", extra={"what": "http", "port": ports[0], "host": settings.host or "all"})
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({engine, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if engine.done():
        # Raises what ended the loop: a defect, which must end the process with a non-zero code.
        engine.result()
    if settings.shutdown_timeout > 0:
        # As vLLM does: the port stays open and /health 200, new requests get 500, those in flight are finished.
        server.draining = True
        log.info("draining", extra={"requests": core.unfinished, "timeout": settings.shutdown_timeout})
        with suppress(TimeoutError):
            await asyncio.wait_for(core.drained(), settings.shutdown_timeout)
        # Handlers have yet to write the ends of their responses.
        await asyncio.sleep(0)
    log.info("stopping", extra={"aborted": core.unfinished})
    await runner.cleanup()
    engine.cancel()
    with suppress(asyncio.CancelledError):
        await engine


if __name__ == "__main__":
    main()
