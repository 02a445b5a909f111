"""Requests to the API server: timeouts, trying again with jitter, credentials that rotate, and counting."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio.client import ApiClient

from plimsoll_kube.connection import load_configuration
from plimsoll_kube.errors import ApiUnavailable, error_of

RequestObserver = Callable[[str, int, float], None]
"""Called with verb, HTTP status (0 when there was no answer) and seconds, after every request."""

CONNECT_TIMEOUT_S: Final = 5.0
"""To open a connection: a handshake within a cluster takes milliseconds."""

FIRST_BACKOFF_S: Final = 0.2
LONGEST_BACKOFF_S: Final = 5.0
"""Between tries; doubled each time, then scaled by a random half to whole, so that clients do not come in step."""

RETRIED_ALWAYS: Final = frozenset({429})
"""Answers that say the request was not begun."""

RETRIED_WHEN_IDEMPOTENT: Final = frozenset({500, 502, 503, 504})
NOT_IDEMPOTENT: Final = frozenset({"POST", "PUT"})
"""POST would make a second object, PUT would conflict with itself: their callers decide."""

_NO_ANSWER: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Transport:
    """HTTP to one API server."""

    def __init__(
        self,
        api: ApiClient,
        kubeconfig: Path | None,
        on_request: RequestObserver | None,
        *,
        timeout: float,
        deadline: float,
        context: str | None = None,
    ) -> None:
        self._api = api
        self._kubeconfig = kubeconfig
        self._context = context
        self._on_request = on_request or (lambda verb, status, seconds: None)
        self._timeout = timeout
        self._deadline = deadline

    @classmethod
    async def open(
        cls,
        kubeconfig: Path | None,
        user_agent: str,
        on_request: RequestObserver | None,
        *,
        timeout: float,
        deadline: float,
        context: str | None = None,
    ) -> Self:
        """A transport for the cluster that `plimsoll_kube.connection` finds; nothing is sent yet."""
        api = ApiClient(await load_configuration(kubeconfig, context))
        api.user_agent = user_agent
        return cls(api, kubeconfig, on_request, timeout=timeout, deadline=deadline, context=context)

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def call(
        self, verb: str, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> bytes:
        """Send a request until it is answered for good, and return the answer's body.

        Raises:
            ApiError: the server refuses, or `ApiUnavailable` once the deadline has passed.
        """
        ends = time.monotonic() + self._deadline
        backoff = FIRST_BACKOFF_S
        refreshed = False
        while True:
            status, answer, retry_after = await self._once(verb, method, path, query, body, content_type)
            if 200 <= status < 300:
                return answer
            if status == 401 and not refreshed:
                refreshed = True
                await self._refresh_credentials()
                continue
            error = error_of(status, answer, f"{method} {path}") if status else _no_answer(method, path, answer)
            wait = max(retry_after, backoff * random.uniform(0.5, 1.0))
            if not _worth_another_try(method, status) or time.monotonic() + wait > ends:
                raise error
            await asyncio.sleep(wait)
            backoff = min(backoff * 2, LONGEST_BACKOFF_S)

    @contextlib.asynccontextmanager
    async def stream(
        self, verb: str, path: str, query: Mapping[str, str], silence: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A response that arrives in pieces.

        Args:
            verb: for the counter.
            path: URL path.
            query: its parameters.
            silence: seconds without a byte after which the connection is taken for dead.

        Raises:
            ApiError: the server refuses; `ApiUnavailable` when it cannot be reached or falls silent.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence)
        began = time.monotonic()
        status = 0
        try:
            response = await self._send("GET", path, query, None, "application/json", timeout)
            status = response.status
        except _NO_ANSWER as error:
            raise _no_answer("GET", path, str(error).encode()) from error
        finally:
            self._on_request(verb, status, time.monotonic() - began)
        try:
            if status != 200:
                if status == 401:
                    await self._refresh_credentials()
                raise error_of(status, await response.read(), f"GET {path}")
            yield response.content
        except _NO_ANSWER as error:
            raise _no_answer("GET", path, str(error).encode()) from error
        finally:
            response.close()

    async def _once(
        self, verb: str, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, bytes, float]:
        """One request: status (0: no answer), body, and the seconds the server asked to wait."""
        timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_TIMEOUT_S)
        began = time.monotonic()
        status = 0
        try:
            response = await self._send(method, path, query, body, content_type, timeout)
            answer = await response.read()
            status = response.status
        except _NO_ANSWER as error:
            return 0, (str(error) or f"no answer within {self._timeout:g} s").encode(), 0.0
        finally:
            self._on_request(verb, status, time.monotonic() - began)
        return status, answer, _seconds(response.headers.get("Retry-After"))

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        # The body is JSON already: walking it for generated models would cost as much as sending it.
        method, url, headers, _, _ = await self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            auth_settings=["BearerToken"],
        )
        answer = await self._api.call_api(method, url, headers, body, _request_timeout=timeout)
        response = answer.response
        assert isinstance(response, aiohttp.ClientResponse)
        return response

    async def _refresh_credentials(self) -> None:
        """Read the kubeconfig or the service account's token again: tokens are replaced while a process runs."""
        fresh = await load_configuration(self._kubeconfig, self._context)
        self._api.configuration.api_key = fresh.api_key


def _worth_another_try(method: str, status: int) -> bool:
    if status in RETRIED_ALWAYS:
        return True
    return method not in NOT_IDEMPOTENT and (status == 0 or status in RETRIED_WHEN_IDEMPOTENT)


def _no_answer(method: str, path: str, why: bytes) -> ApiUnavailable:
    return ApiUnavailable(0, "NoAnswer", f"{method} {path}: {why.decode(errors='replace') or 'no answer'}")


def _seconds(retry_after: str | None) -> float:
    """The seconds in a Retry-After header; the API server sends no dates."""
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
