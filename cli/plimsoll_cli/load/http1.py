"""Reading an HTTP/1.1 response from bytes as they come: status, headers, body. No sockets.

A general client wakes a task per read, so a token is stamped when that task gets its turn and costs half as much CPU
again (`bench/load.py` compares); here it is stamped in the callback that received it.
"""

from __future__ import annotations

from typing import Final

_MAX_HEAD_BYTES: Final = 65_536
"""Longest status line and headers taken: servers and proxies allow 8 to 64 KiB."""
_MAX_SIZE_LINE_BYTES: Final = 4_096
"""Longest chunk-size line taken, extensions included."""


class ProtocolError(Exception):
    """The peer sent something that is not an HTTP/1.1 response."""


class ResponseReader:
    """One response. Feed it what arrives; it gives back the body's bytes.

    Attributes:
        status: the HTTP status, 0 until it is known.
        headers: by lower-case name, empty until known; of repeated ones the last.
        complete: the whole body has been given back.
    """

    __slots__ = ("_buffer", "_chunked", "_left", "complete", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = b""
        self._chunked = False
        self._left: int | None = None  # of a body with a length; None: until the connection closes

    def feed(self, data: bytes) -> bytes:
        """The body bytes that these bytes complete; empty when they complete none.

        Raises:
            ProtocolError: this is no HTTP/1.1 response.
        """
        if self.complete:
            return b""
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        while not self.status:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > _MAX_HEAD_BYTES:
                    raise ProtocolError(f"response headers are longer than {_MAX_HEAD_BYTES} bytes")
                self._buffer = data
                return b""
            self._read_head(data[:end])
            data = data[end + 4 :]
        return self._read_chunks(data) if self._chunked else self._read_plain(data)

    def end_of_stream(self) -> None:
        """The connection closed: a body without a length is then complete."""
        if self.status and not self._chunked and self._left is None:
            self.complete = True

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not code.isdigit():
            raise ProtocolError(f"the answer is not HTTP/1.1: {first[:60]!r}")
        if code.startswith("1"):
            return  # an interim response; the real one follows
        self.status = int(code)
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if not self._chunked and length is not None:
            if not length.isdigit():
                raise ProtocolError(f"Content-Length {length!r} is not a number")
            self._left = int(length)
        if self.status in (204, 304) or self._left == 0:
            self.complete = True

    def _read_plain(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        body = data[: self._left]
        self._left -= len(body)
        self.complete = self._left == 0
        return body

    def _read_chunks(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        at = 0
        while True:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if len(data) - at > _MAX_SIZE_LINE_BYTES:
                    raise ProtocolError("a chunk has no size line")
                break
            size = _chunk_size(data[at:line_end])
            begin = line_end + 2
            if size == 0:
                # Trailers, if any, are not waited for: nothing in them matters here.
                self.complete = True
                return b"".join(pieces)
            if len(data) < begin + size + 2:
                break
            pieces.append(data[begin : begin + size])
            at = begin + size + 2
        self._buffer = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    try:
        if digits.isalnum():  # int() would take a sign and underscores too
            return int(digits, 16)
    except ValueError:
        pass
    raise ProtocolError(f"chunk size {line[:20]!r} is not a hexadecimal number")
