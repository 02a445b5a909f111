"""Bodies of vLLM 0.32's answers, and the two ways a request's tokens reach its client."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final

from plimsoll_runtime.engine.generation import Generation

VERSION: Final = "0.32.0"
"""vLLM release whose API and metrics are simulated."""

SYSTEM_FINGERPRINT: Final = f"vllm-{VERSION}-plimsoll"

_DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """What every part of an answer carries.

    Args:
        id: the request's id.
        created: unix time, whole seconds.
        generation: the request.
    """

    id: str
    created: int
    generation: Generation

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens of prompt and output."""
        prompt, output = self.generation.prompt_tokens, len(self.generation.output)
        return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}

    def head(self, kind: str) -> dict[str, Any]:
        """Fields at the start of a body or chunk."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.generation.model}


def whole(answer: Answer) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    generation = answer.generation
    text = "".join(generation.output)
    ending = {"logprobs": None, "finish_reason": generation.finish_reason, "stop_reason": generation.stop_reason}
    tail = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    common = {
        "service_tier": None,
        "system_fingerprint": SYSTEM_FINGERPRINT,
        "usage": {**answer.usage, **details},
    }
    if not generation.chat:
        extra = {"token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None, "routed_experts": None}
        choices = [{"index": 0, "text": text, **ending, **extra}]
        return {**answer.head("text_completion"), "choices": choices, **common, **tail}
    empty: dict[str, Any] = {
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    message = {"role": "assistant", "content": text, **empty}
    choice = {"index": 0, "message": message, **ending, "token_ids": None, "routed_experts": None}
    prompt = {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
    return {**answer.head("chat.completion"), "choices": [choice], **common, **prompt, **tail}


class WholeReceiver:
    """Waits for the last token."""

    __slots__ = ("done",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()

    def token(self, index: int, *, last: bool) -> None:
        """Nothing is sent before the last token."""
        if last and not self.done.done():
            self.done.set_result(None)


class StreamReceiver:
    """Writes each token to the client as a server-sent event, in one write, from pieces encoded beforehand.

    Args:
        answer: what is streamed.
        transport: the client's connection; its body is in chunked transfer encoding, which is written here.
        loop: for `done`, which is set after the last token.
    """

    __slots__ = ("_answer", "_first", "_framed", "_output", "_suffix", "_transport", "done")

    def __init__(self, answer: Answer, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._answer = answer
        self._transport = transport
        self._output = answer.generation.output
        prefix, suffix = _token_event(answer)
        # Tokens have four letters, so that the length of nearly all chunks is known now.
        self._framed = b"%x\r\n%b" % (len(prefix) + 4 + len(suffix), prefix)
        self._suffix = suffix + b"\r\n"
        self._first = _framed(_role_event(answer)) if answer.generation.chat else b""

    def token(self, index: int, *, last: bool) -> None:
        """Write a token; after the last one the stream's end."""
        if self._transport.is_closing():
            # The client has left; its request is aborted in a moment.
            return
        if last:
            self._transport.write(self._first + _last_events(self._answer, self._output[index]))
            if not self.done.done():
                self.done.set_result(None)
            return
        text = self._output[index]
        if len(text) == 4:
            data = self._framed + text.encode("ascii") + self._suffix
        else:
            prefix, suffix = _token_event(self._answer)
            data = _framed(prefix + text.encode("ascii") + suffix)
        if self._first:
            data, self._first = self._first + data, b""
        self._transport.write(data)


def _framed(data: bytes) -> bytes:
    """One chunk of a body in chunked transfer encoding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + _encoded(body) + b"\n\n"


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _token_choice(answer: Answer, text: str) -> dict[str, Any]:
    if answer.generation.chat:
        return {
            "index": 0,
            "delta": {"content": text},
            "logprobs": None,
            "finish_reason": None,
            "token_ids": None,
        }
    return {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": None,
        "stop_reason": None,
        "prompt_token_ids": None,
        "token_ids": None,
    }


def _chunk(answer: Answer, choices: list[dict[str, Any]]) -> dict[str, Any]:
    kind = "chat.completion.chunk" if answer.generation.chat else "text_completion"
    return {**answer.head(kind), "choices": choices}


def _token_event(answer: Answer) -> tuple[bytes, bytes]:
    """What stands before and after a token's text."""
    mark = "\x00"
    before, after = _event(_chunk(answer, [_token_choice(answer, mark)])).split(json.dumps(mark)[1:-1].encode(), 1)
    return before, after


def _role_event(answer: Answer) -> bytes:
    delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return _event({**_chunk(answer, [choice]), "prompt_token_ids": None, "prompt_text": None})


def _last_events(answer: Answer, text: str) -> bytes:
    """The last token with the finish reason, usage when asked for, and the end mark, framed."""
    generation = answer.generation
    choice = _token_choice(answer, text)
    if generation.chat:
        ids = choice.pop("token_ids")
        choice |= {"finish_reason": generation.finish_reason, "stop_reason": generation.stop_reason, "token_ids": ids}
    else:
        choice |= {"finish_reason": generation.finish_reason, "stop_reason": generation.stop_reason}
    fingerprint = {"system_fingerprint": SYSTEM_FINGERPRINT}
    last = _chunk(answer, [choice])
    if not generation.include_usage:
        return _framed(_event({**last, **fingerprint})) + _framed(_DONE)
    usage = {**_chunk(answer, []), "usage": answer.usage, **fingerprint}
    return _framed(_event(last)) + _framed(_event(usage)) + _framed(_DONE)
