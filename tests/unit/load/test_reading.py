"""Reading responses from bytes: any split of the stream reads the same."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.load.events import EventReader
from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.http1 import ProtocolError, ResponseReader


def completion(text: str, finish: str | None, *, compact: bool = True) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}, separators=(",", ":") if compact else None).encode() + b"\n\n"


def chat(delta: dict[str, str], finish: str | None = None) -> bytes:
    body = json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}, separators=(",", ":"))
    return b"data: " + body.encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b": keep-alive\n\n" + completion(" data: \n\ndata:", None) * 3 + completion("", "length") + USAGE + DONE


def read(data: bytes, cuts: list[int], asked: int = 4) -> EventReader:
    reader = EventReader(asked, Histogram())
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for index, (start, end) in enumerate(pairwise(edges)):
        reader.feed(data[start:end], float(index))
    return reader


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_events_read_the_same_however_they_are_split(cuts: list[int]) -> None:
    reader = read(WHOLE, cuts)
    assert (reader.events, reader.tokens, reader.prompt_tokens) == (4, 4, 7)
    assert (reader.finish_reason, reader.done, reader.verdict()) == ("length", True, "")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("compact", [True, False])
def test_json_spacing_and_line_ends_do_not_matter(compact: bool, line_end: bytes) -> None:
    data = completion(" a", None, compact=compact) * 5 + completion(" b", "stop", compact=compact) + DONE
    reader = read(data.replace(b"\n", line_end), [100, 300], asked=6)
    assert (reader.events, reader.verdict()) == (6, "")


def test_a_chat_opens_with_a_role_that_is_no_token() -> None:
    data = chat({"role": "assistant", "content": ""}) + chat({"content": " a"}) * 3 + chat({}, "stop") + DONE
    reader = read(data, [], asked=3)
    assert reader.events == 3
    assert reader.verdict() == ""


def test_the_first_token_is_timed_and_not_the_role() -> None:
    reader = EventReader(2, Histogram())
    reader.feed(chat({"role": "assistant", "content": ""}), 1.0)
    reader.feed(chat({"content": " a"}), 2.0)
    reader.feed(chat({"content": " b"}, "length"), 2.5)
    assert (reader.first_at, reader.last_at) == (2.0, 2.5)


def test_gaps_are_recorded_between_tokens() -> None:
    gaps = Histogram()
    reader = EventReader(4, gaps)
    reader.feed(completion(" a", None), 1.0)
    reader.feed(completion(" b", None), 1.05)
    reader.feed(completion(" c", None) + completion(" d", "length"), 1.10)
    assert gaps.count == 3
    assert gaps.maximum == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (completion(" a", None), "stream ended without finish_reason or [DONE]"),
        (completion(" a", "length") + DONE, "finished for length after 1 of 4 tokens"),
        (completion(" a", None) + DONE, "[DONE] after 1 of 4 tokens"),
        (completion(" a", None) + completion("", "abort") + DONE, "finish_reason abort"),
        (b'data: {"error":{"message":"out of\\nmemory"}}\n\n', "out of memory"),
        (b'data: {"object":"error","message":"old style"}\n\n', "old style"),
        (b"data: {nonsense\n\n", "unreadable event"),
        (b"data: 5\n\n", "unreadable event"),
    ],
)
def test_what_is_not_whole_says_why(data: bytes, problem: str) -> None:
    assert problem in read(data, []).verdict()


def test_a_model_that_stops_by_itself_is_whole() -> None:
    assert read(completion(" a", None) + completion(" b", "stop") + DONE, []).verdict() == ""


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\nc;x=1\r\n, world\r\n!!!\r\n0\r\n\r\n"
)
SIZED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 11\r\n\r\nhello world"
CLOSED = b"HTTP/1.0 200 OK\r\n\r\nhello world"


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [(CHUNKED, 200, b"hello, world\r\n!!!"), (SIZED, 503, b"hello world"), (CLOSED, 200, b"hello world")],
)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=10))
def test_a_response_reads_the_same_however_it_is_split(data: bytes, status: int, body: bytes, cuts: list[int]) -> None:
    reader = ResponseReader()
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    got = b"".join(reader.feed(data[a:b]) for a, b in pairwise(edges))
    assert (reader.status, got) == (status, body)
    reader.end_of_stream()
    assert reader.complete


def test_an_unfinished_chunked_body_is_not_complete() -> None:
    reader = ResponseReader()
    assert reader.feed(CHUNKED[:-5]) == b"hello, world\r\n!!!"
    reader.end_of_stream()
    assert not reader.complete


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ResponseReader().feed(data)
