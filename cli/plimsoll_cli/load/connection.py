"""Sending one request over its own connection and reading its stream, as a bare asyncio protocol."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import SplitResult, urlsplit

from plimsoll_cli.load.events import EventReader, error_message
from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.http1 import ProtocolError, ResponseReader

_ERROR_BODY_BYTES: Final = 65_536
"""How much of an error's body is read."""
_HTTP_OK: Final = 200
_CONNECT_SECONDS: Final = 5.0
"""How long an address of several may take to answer: longer than a lost SYN takes to be sent again, twice."""

clock: Final[Callable[[], float]] = time.perf_counter
"""The one clock of a test (s). An event loop's own is read once per iteration and, with uvloop, in milliseconds."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go.

    Args:
        host: as in the URL, for the Host header and TLS.
        port: TCP port.
        addresses: what the host resolved to; requests take turns.
        path: path of the completion API.
        tls: TLS settings, or None for plain HTTP.
        api_key: bearer token, or None.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    path: str
    tls: ssl.SSLContext | None
    api_key: str | None

    def head(self, content_length: int) -> bytes:
        """Request line and headers.

        One connection per request: a Kubernetes Service balances connections, so a kept one would stay with its old pod
        after a scale-out, and reusing an idle one races with the server's own idle timeout (5 s in vLLM).
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {host}:{self.port}",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            "Connection: close",
            f"Content-Length: {content_length}",
        ]
        if self.api_key:
            lines.append(f"Authorization: Bearer {self.api_key}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def checked(url: str) -> SplitResult:
    """The parts of a base URL.

    Raises:
        ValueError: it is not http(s)://host[:port][/path].
    """
    wrong = ValueError(f"url {url!r}: write it as http://host:port")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not usable or parts.query or parts.fragment or parts.username:
        raise wrong
    return parts


async def resolve(url: str, path: str, api_key: str | None) -> Endpoint:
    """The endpoint of a base URL; its name is resolved once, so that no request waits for a resolver.

    Where a name has several addresses, those count that something listens on: `localhost` is often of both families
    while the server is of one.

    Raises:
        ValueError: the URL is not http(s)://host[:port][/path].
        OSError: the name does not resolve.
    """
    parts = checked(url)
    assert parts.hostname is not None
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, proto=6)
    addresses = await _listening(tuple(dict.fromkeys(str(entry[4][0]) for entry in found)), port)
    base = parts.path.rstrip("/").removesuffix("/v1")
    tls = ssl.create_default_context() if secure else None
    return Endpoint(parts.hostname, port, addresses, base + path, tls, api_key)


async def _listening(addresses: tuple[str, ...], port: int) -> tuple[str, ...]:
    """Those of several addresses that take a connection; all when none does, for the requests to say why."""

    async def listens(address: str) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(address, port)
        except OSError:  # TimeoutError is one
            return False
        writer.close()
        return True

    if len(addresses) == 1:
        return addresses
    found = await asyncio.gather(*map(listens, addresses))
    return tuple(address for address, ok in zip(addresses, found, strict=True) if ok) or addresses


class CompletionStream(asyncio.Protocol):
    """One request and its response on one connection.

    Attributes:
        finished: resolves when the answer is whole or the connection is gone.
        events: what the stream brought.
        response: the HTTP response so far.
        sent_at: when the request was written, on `clock`; None before.
        broken: what went wrong with the connection, empty when nothing did.
    """

    def __init__(self, request: bytes, asked: int, gaps: Histogram, on_first_token: Callable[[float], None]) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events = EventReader(asked, gaps)
        self.response = ResponseReader()
        self.sent_at: float | None = None
        self.broken = ""
        self._request = request
        self._on_first_token = on_first_token
        self._transport: asyncio.Transport | None = None
        self._error_body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # uvloop's transports are asyncio.Transport in all but their base class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)
        self._request = b""
        self.sent_at = clock()

    def data_received(self, data: bytes) -> None:
        """Read what came; this runs once per token and is kept short."""
        now = clock()
        try:
            body = self.response.feed(data)
        except ProtocolError as error:
            self.broken = str(error)
            self._finish()
            return
        if body:
            if self.response.status == _HTTP_OK:
                waiting = self.events.first_at is None
                self.events.feed(body, now)
                if waiting and self.events.first_at is not None:
                    self._on_first_token(now)
            elif len(self._error_body) < _ERROR_BODY_BYTES:
                self._error_body += body
        if self.response.complete:
            self._finish()

    def eof_received(self) -> None:
        """The peer will send no more."""
        self.response.end_of_stream()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: fine when the answer is whole, otherwise say how it broke."""
        self.response.end_of_stream()
        if not self.response.complete and not self.broken:
            self.broken = _reason(exc)
        self._finish()

    def close(self) -> None:
        """Drop the connection at once, whatever is in flight."""
        if self._transport is not None:
            self._transport.abort()

    def verdict(self) -> str:
        """Why the answer is not whole; empty when it is."""
        status = self.response.status
        if status not in (0, _HTTP_OK):
            return f"HTTP {status}: {_error_text(self._error_body)}".rstrip(": ")
        if status == 0:
            return self.broken or "connection closed without a response"
        problem = self.events.verdict()
        # A connection that breaks after the last token has harmed nobody.
        return f"{self.broken}: {problem}" if problem and self.broken else problem

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


def _reason(error: Exception | None) -> str:
    match error:
        case None:
            return "connection closed early"
        case ConnectionResetError():
            return "connection reset"
        case _:
            return str(error) or type(error).__name__


def _error_text(body: bytes) -> str:
    try:
        return error_message(json.loads(body)) if body else ""
    except ValueError:
        return error_message(body.decode(errors="replace"))
