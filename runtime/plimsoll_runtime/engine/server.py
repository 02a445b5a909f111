"""The HTTP side of the engine, over aiohttp's low-level server."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, generate_latest

from plimsoll_recommender.scheduler import Request
from plimsoll_runtime.engine import api_errors, generation, responses
from plimsoll_runtime.engine.api_errors import ApiError
from plimsoll_runtime.engine.core import EngineCore
from plimsoll_runtime.engine.exposition import CONTENT_TYPE
from plimsoll_runtime.engine.generation import Limits
from plimsoll_runtime.engine.http_metrics import UNKNOWN_HANDLER, HttpMetrics
from plimsoll_runtime.engine.settings import Settings, UsageError

MAX_BODY: Final = 64 * 1024**2
"""Bytes of a request's body that are read: a prompt of some 16 million tokens."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class EngineServer:
    """Answers requests.

    Args:
        settings: what the engine was told.
        core: the engine.
        limits: what bounds a request.
        started: unix time of the start.
    """

    def __init__(self, settings: Settings, core: EngineCore, limits: Limits, started: float) -> None:
        self.draining = False
        self._settings = settings
        self._core = core
        self._limits = limits
        self._started = int(started)
        self._http_metrics = HttpMetrics(started)
        self._random = random.Random(settings.seed)
        self._numbers = itertools.count()
        # Ids of two engines differ: a client may have spoken to both.
        self._instance = f"{random.SystemRandom().getrandbits(32):08x}"
        self._process_registry = CollectorRegistry()
        for collector in (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR):
            self._process_registry.register(collector)
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/completions": {"POST": self._completions},
            "/v1/chat/completions": {"POST": self._chat_completions},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": _empty},
            "/ping": {"GET": _empty, "POST": _empty},
            "/version": {"GET": _version},
            "/load": {"GET": self._load},
            "/metrics": {"GET": self._metrics},
        }
        if settings.enable_admin:
            self._routes["/admin/faults"] = {"GET": self._read_faults, "POST": self._write_faults}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and count it."""
        began = time.monotonic()
        methods = self._routes.get(request.path)
        handler = request.path if methods is not None and request.method in methods else UNKNOWN_HANDLER
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        sent = 0
        try:
            response = await self._answer(request, methods)
            status, sent = response.status, response.content_length or 0
            return response
        finally:
            self._http_metrics.observe(
                handler, request.method, status, time.monotonic() - began, request.content_length or 0, sent
            )

    async def _answer(self, request: web.BaseRequest, methods: dict[str, Handler] | None) -> web.StreamResponse:
        if methods is None:
            return _json({"detail": "Not Found"}, HTTPStatus.NOT_FOUND)
        route = methods.get(request.method)
        if route is None:
            return _json({"detail": "Method Not Allowed"}, HTTPStatus.METHOD_NOT_ALLOWED)
        if request.path.startswith("/v1/") and not self._authorised(request):
            return _json({"error": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)
        try:
            return await route(request)
        except ApiError as error:
            return _json(error.body(), error.status)

    def _authorised(self, request: web.BaseRequest) -> bool:
        keys = self._settings.api_keys
        if not keys:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        right = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
        return scheme.lower() == "bearer" and any(right)

    async def _completions(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._generate(request, chat=False)

    async def _chat_completions(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._generate(request, chat=True)

    async def _generate(self, request: web.BaseRequest, *, chat: bool) -> web.StreamResponse:
        arrived = time.monotonic()
        if not request.content_type.endswith("json"):
            message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise ApiError(HTTPStatus.BAD_REQUEST, message, HTTPStatus.BAD_REQUEST.phrase)
        asked = generation.parse(await request.read(), chat=chat, limits=self._limits)
        self._admit()
        identity = f"{'chatcmpl' if chat else 'cmpl'}-{self._instance}{next(self._numbers):08x}"
        answer = responses.Answer(identity, int(time.time()), asked)
        if asked.stream:
            return await self._stream(request, answer, arrived)
        receiver = responses.WholeReceiver(asyncio.get_running_loop())
        await self._run(answer, receiver, arrived)
        return _json(responses.whole(answer))

    def _admit(self) -> None:
        """Refuse a request that cannot be taken now."""
        if self.draining:
            raise api_errors.shutting_down()
        most = self._settings.max_num_queued_reqs
        if most is not None and self._core.unfinished + 1 > most:
            self._core.metrics.rejections.values[0] += 1
            raise api_errors.busy()
        rate = self._core.faults.error_rate
        if rate and self._random.random() < rate:
            raise api_errors.internal("injected error")

    async def _stream(self, request: web.BaseRequest, answer: responses.Answer, arrived: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        writer = await response.prepare(request)
        if writer is None or request.transport is None:
            return response
        writer.send_headers()
        receiver = responses.StreamReceiver(answer, request.transport, asyncio.get_running_loop())
        await self._run(answer, receiver, arrived)
        await response.write_eof()
        return response

    async def _run(
        self, answer: responses.Answer, receiver: responses.WholeReceiver | responses.StreamReceiver, arrived: float
    ) -> None:
        """Have a request generated; a client that leaves cancels this, which frees its blocks."""
        asked = answer.generation
        work = Request(answer.id, asked.prompt_tokens, len(asked.output), asked.block_hashes)
        self._core.add(work, receiver, asked.max_tokens, stops=asked.finish_reason == "stop", arrived=arrived)
        try:
            await receiver.done
        finally:
            self._core.abort(answer.id)

    async def _models(self, _request: web.BaseRequest) -> web.StreamResponse:
        settings = self._settings
        allowed = ("allow_sampling", "allow_logprobs", "allow_view")
        permission = {
            "id": f"modelperm-{self._instance}",
            "object": "model_permission",
            "created": self._started,
            **{
                name: name in allowed
                for name in (
                    *("allow_create_engine", "allow_sampling", "allow_logprobs"),
                    *("allow_search_indices", "allow_view", "allow_fine_tuning"),
                )
            },
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        common = {"object": "model", "created": self._started, "owned_by": "vllm", "root": settings.model}
        data = [
            {"id": name, **common, "parent": None, "max_model_len": self._limits.max_model_len}
            | {"permission": [permission]}
            for name in settings.served_model_names
        ]
        return _json({"object": "list", "data": data})

    async def _load(self, _request: web.BaseRequest) -> web.StreamResponse:
        # vLLM counts only with --enable-server-load-tracking, else it says 0; the simulation always counts.
        return _json({"server_load": self._core.unfinished})

    async def _metrics(self, _request: web.BaseRequest) -> web.StreamResponse:
        self._core.refresh()
        lines: list[str] = []
        for family in (*self._core.metrics.families, *self._http_metrics.families, self._core.lag):
            family.render(lines)
        body = generate_latest(self._process_registry) + "\n".join(lines).encode() + b"\n"
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _read_faults(self, _request: web.BaseRequest) -> web.StreamResponse:
        return _json(asdict(self._core.faults))

    async def _write_faults(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            self._core.faults = replace(self._core.faults, **json.loads(await request.read()))
        except (ValueError, TypeError, UsageError) as error:
            known = ", ".join(asdict(self._core.faults))
            return _json({"error": f"{error}; fields are {known}"}, HTTPStatus.BAD_REQUEST)
        return _json(asdict(self._core.faults))


async def _empty(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def _version(_request: web.BaseRequest) -> web.StreamResponse:
    return _json({"version": responses.VERSION})


def _json(body: Any, status: int = HTTPStatus.OK) -> web.Response:
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=data, status=int(status), content_type="application/json")
