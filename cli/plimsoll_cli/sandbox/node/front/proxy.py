"""Pass one HTTP request to a pod and its answer back, byte by byte as it comes."""

from __future__ import annotations

import io
import logging
from collections import Counter
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from plimsoll_cli.sandbox.node.front.balance import Backend, choose
from plimsoll_cli.sandbox.node.front.table import RouteTable

logger = logging.getLogger(__name__)
CONNECT_SECONDS: Final = 10.0
"""To open a connection to a pod of this machine. One that has ended refuses at once; this is for one whose queue of
connections is full, and long, since on a machine whose processors are all busy this process may stand still for
seconds: Linux asks again after 1, 3 and 7 s (tcp(7), tcp_syn_retries)."""
KEEP_ALIVE_SECONDS: Final = 3.0
"""How long an idle connection to a pod is kept: less than the 5 s after which vLLM's server closes its end, so that no
request is sent into a connection that is being closed."""
BUFFERED_BODY_BYTES: Final = 1 << 20
"""Request bodies up to this are read before they are sent, so that a pod that is gone can be replaced."""
_ATTEMPTS: Final = 2
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "expect"}
)
"""RFC 9110 section 7.6.1; `Expect` was answered here already."""
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def new_session(connect_seconds: float = CONNECT_SECONDS) -> aiohttp.ClientSession:
    """A client without limits of its own: the engines decide how much they take."""
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=0, keepalive_timeout=KEEP_ALIVE_SECONDS, use_dns_cache=False, force_close=False
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
    )


class Proxy:
    """The front's request handler."""

    def __init__(self, table: RouteTable, session: aiohttp.ClientSession) -> None:
        self._table = table
        self._session = session
        self._turn = 0
        self.outstanding: Counter[str] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Cancelled when the client goes away, which closes the connection to the pod."""
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[:2]
        if hdrs.UPGRADE in request.headers:
            return _refusal(501, "the Service front of the sandbox speaks HTTP/1.1 without upgrades")
        small = request.content_length is not None and request.content_length <= BUFFERED_BODY_BYTES
        body = await request.read() if small and request.body_exists else None
        tried: list[Backend] = []
        failure = ""
        while len(tried) < _ATTEMPTS:
            route = self._table.routes.get(address)
            self._turn += 1
            backend = choose(route.backends, self.outstanding, self._turn, tried) if route else None
            if backend is None:
                break
            tried.append(backend)
            self.outstanding[backend.pod] += 1
            try:
                return await self._pass(request, backend, body)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:  # nothing was sent yet
                failure = str(error)
            except aiohttp.ServerDisconnectedError as error:
                failure = str(error)
                if request.method not in _IDEMPOTENT:
                    break
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = str(error) or "no answer"
                break
            finally:
                self._done(backend)
        if tried:
            return _refusal(502, f"pod at {tried[-1].address}:{tried[-1].port} did not answer: {failure}")
        name = route.service if route else f"{address[0]}:{address[1]}"
        return _refusal(503, f"service {name} has no ready pod")

    def _done(self, backend: Backend) -> None:
        self.outstanding[backend.pod] -= 1
        if self.outstanding[backend.pod] <= 0:
            del self.outstanding[backend.pod]

    async def _pass(self, request: web.BaseRequest, backend: Backend, body: bytes | None) -> web.StreamResponse:
        """One attempt; a failure after the answer has begun cuts the client's connection, so that it can tell."""
        url = f"http://{backend.address}:{backend.port}{request.raw_path}"
        data = io.BytesIO(body) if body else (request.content if body is None and request.body_exists else None)
        async with self._session.request(
            request.method, URL(url, encoded=True), headers=_forwarded(request), data=data,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_kept(answer.headers))
            try:
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, ConnectionError) as error:
                logger.warning("stream cut", extra={"pod": backend.address, "error": str(error)})
                if request.transport is not None:
                    request.transport.abort()
            return response


def _kept(headers: CIMultiDict[str] | aiohttp.typedefs.LooseHeaders) -> CIMultiDict[str]:
    """Headers without those that are about one connection only."""
    named = CIMultiDict(headers)
    listed = {name.strip().lower() for value in named.getall(hdrs.CONNECTION, ()) for name in value.split(",")}
    return CIMultiDict((k, v) for k, v in named.items() if k.lower() not in _HOP_BY_HOP and k.lower() not in listed)


def _forwarded(request: web.BaseRequest) -> CIMultiDict[str]:
    """The request's headers for the pod."""
    headers = _kept(request.headers)
    earlier = headers.get("X-Forwarded-For")
    client = request.remote or ""
    headers["X-Forwarded-For"] = f"{earlier}, {client}" if earlier else client
    return headers


def _refusal(code: int, message: str) -> web.Response:
    """An error in the form that OpenAI clients read."""
    kind = {501: "not_implemented", 502: "bad_gateway", 503: "service_unavailable"}[code]
    return web.json_response({"error": {"message": message, "type": kind, "code": code}}, status=code)
