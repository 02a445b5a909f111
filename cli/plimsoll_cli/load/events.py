"""Reading a completion's server-sent events from bytes as they come: when tokens came, how it ended. No sockets."""

from __future__ import annotations

import json
from typing import Any, Final

from plimsoll_cli.load.histogram import Histogram

_UNFINISHED: Final = (b'"finish_reason":null', b'"finish_reason": null')
_ERROR_LENGTH: Final = 160
"""Characters of a server's error message kept: one line of a terminal."""
_BROKEN_OFF: Final = frozenset({"abort", "error"})
"""Finish reasons of vLLM that mean the answer is not whole."""


class EventReader:
    """The events of one stream.

    An event that only carries a token is counted without parsing it: JSON is read for the first event, for the last
    ones (finish reason, usage), and for errors.

    Args:
        asked: output tokens asked for.
        gaps: where the times between tokens are recorded.

    Attributes:
        first_at, last_at: when the first and the last token came, on the caller's clock; None before.
        events: events that carried a token.
        finish_reason: as the server gave it; None until then.
        done: `[DONE]` came.
        error: the server's error message, empty when there is none.
        usage: the server's count of tokens; empty when it gave none.
    """

    __slots__ = ("_asked", "_gaps", "_rest", "done", "error", "events", "finish_reason", "first_at", "last_at", "usage")

    def __init__(self, asked: int, gaps: Histogram) -> None:
        self._asked = asked
        self._gaps = gaps
        self._rest = b""
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.events = 0
        self.finish_reason: str | None = None
        self.done = False
        self.error = ""
        self.usage: dict[str, Any] = {}

    @property
    def tokens(self) -> int:
        """Tokens received: by the server's usage where it gave one, else events (an event may carry several tokens)."""
        counted = self.usage.get("completion_tokens")
        return counted if isinstance(counted, int) else self.events

    @property
    def prompt_tokens(self) -> int:
        """The server's count of the prompt's tokens, 0 when it gave none."""
        counted = self.usage.get("prompt_tokens")
        return counted if isinstance(counted, int) else 0

    def feed(self, data: bytes, now: float) -> None:
        """Take body bytes that arrived at `now` (s)."""
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if not end:
            return
        lines = data[:end]
        # Only whole lines are here, so every event starts at a line start; JSON holds no raw newline.
        count = lines.count(b"\ndata:") + lines.startswith(b"data:")
        if not count:
            return  # comments that keep the connection alive
        if self.first_at is not None and lines.count(_UNFINISHED[0]) + lines.count(_UNFINISHED[1]) == count:
            self._tokens_at(now, count)
            return
        for line in lines.splitlines():
            if line.startswith(b"data:"):
                self._read(line[5:].strip(), now)

    def verdict(self) -> str:
        """Why the answer is not whole; empty when it is."""
        if self.error:
            return self.error
        so_far = f"after {self.tokens} of {self._asked} tokens"
        if self.finish_reason in _BROKEN_OFF:
            return f"finish_reason {self.finish_reason}"
        if self.finish_reason is None and not self.done:
            return "stream ended without finish_reason or [DONE]"
        if self.finish_reason in (None, "length") and self.tokens < self._asked:
            return f"finished for length {so_far}" if self.finish_reason else f"[DONE] {so_far}"
        return ""

    def _tokens_at(self, now: float, count: int) -> None:
        if self.last_at is None:
            self.first_at = now
            count_of_gaps = count - 1
        else:
            self._gaps.record(now - self.last_at)
            count_of_gaps = count - 1
        if count_of_gaps:
            self._gaps.record(0.0, count_of_gaps)
        self.last_at = now
        self.events += count

    def _read(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            event = json.loads(payload)
        except ValueError:
            self.error = f"unreadable event {payload[:60].decode(errors='replace')!r}"
            return
        if not isinstance(event, dict):
            self.error = f"unreadable event {payload[:60].decode(errors='replace')!r}"
            return
        if event.get("error") or event.get("object") == "error":
            self.error = error_message(event)
            return
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        for choice in event.get("choices") or ():
            reason = choice.get("finish_reason")
            if reason is not None:
                self.finish_reason = str(reason)
            if self._carries_token(choice, finished=reason is not None):
                self._tokens_at(now, 1)

    def _carries_token(self, choice: dict[str, Any], *, finished: bool) -> bool:
        """Whether an event brought a token: not a chat's opening role, nor a closing event after the last token."""
        delta = choice.get("delta")
        text = choice.get("text") if delta is None else delta.get("content") or delta.get("reasoning_content")
        if text:
            return True
        if delta is not None and "role" in delta and not finished:
            return False
        # A token may decode to no text; a closing event without text counts only while tokens are missing.
        return not finished or self.events < self._asked


def error_message(document: Any) -> str:
    """The message of an OpenAI-style error document, on one line."""
    error = document.get("error", document) if isinstance(document, dict) else document
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(text or "error without a message").split())[:_ERROR_LENGTH]
