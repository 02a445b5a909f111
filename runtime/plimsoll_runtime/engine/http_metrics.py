"""The HTTP families that vLLM gets from prometheus-fastapi-instrumentator, with its names, labels and buckets."""

from __future__ import annotations

from typing import Final

from plimsoll_runtime.engine.exposition import Counter, Family, Histogram, Summary

EXCLUDED: Final = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})
"""Handlers that vLLM does not count."""

UNKNOWN_HANDLER: Final = "none"
"""Label of a path that no route serves."""

FINE_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5),
    *(3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60),
)
BUCKETS: Final = (0.1, 0.5, 1)


class HttpMetrics:
    """Counts of answered HTTP requests.

    Args:
        created: unix time at which counting began.
    """

    def __init__(self, created: float) -> None:
        self._requests = Counter("http_requests_total", "Requests by handler, method and status.", [], created)
        self._request_size = Summary("http_request_size_bytes", "Content length of requests.", created)
        self._response_size = Summary("http_response_size_bytes", "Content length of responses.", created)
        self._fine = Histogram(
            "http_request_duration_highr_seconds", "Duration of requests.", FINE_BUCKETS, [{}], created
        )
        self._duration = Histogram("http_request_duration_seconds", "Duration by handler.", BUCKETS, [], created)
        self._by_status: dict[tuple[str, str, str], int] = {}
        self._by_handler: dict[str, int] = {}
        self._by_method: dict[tuple[str, str], int] = {}

    @property
    def families(self) -> tuple[Family, ...]:
        """All families, for rendering."""
        return (self._requests, self._request_size, self._response_size, self._fine, self._duration)

    def observe(
        self, handler: str, method: str, status: int, seconds: float, request_bytes: int, response_bytes: int
    ) -> None:
        """Count one answered request; `seconds` last until the end of a stream."""
        if handler in EXCLUDED:
            return
        group = f"{status // 100}xx"
        key = (handler, method, group)
        if key not in self._by_status:
            self._by_status[key] = self._requests.add_series({"handler": handler, "method": method, "status": group})
        self._requests.values[self._by_status[key]] += 1
        if handler not in self._by_handler:
            self._by_handler[handler] = self._request_size.add_series({"handler": handler})
            self._response_size.add_series({"handler": handler})
        self._request_size.observe(request_bytes, self._by_handler[handler])
        self._response_size.observe(response_bytes, self._by_handler[handler])
        self._fine.observe(seconds)
        if (handler, method) not in self._by_method:
            labels = {"handler": handler, "method": method}
            self._by_method[handler, method] = self._duration.add_series(labels)
        self._duration.observe(seconds, series=self._by_method[handler, method])
