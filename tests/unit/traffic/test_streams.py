"""Traces and what may be done to a stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_simulator.traffic import SHAPES, Request, clip, parse_trace, scale_lengths, scale_rate, scale_time, shape

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:05.2319600,110,0
2023-11-16 18:17:04.4799600,3180,8
"""

streams = st.lists(
    st.tuples(st.floats(0, 1000), st.integers(1, 9000), st.integers(1, 2000)), min_size=1, max_size=40
).map(lambda rows: tuple(Request(*row) for row in sorted(rows)))


def test_an_azure_trace_is_read_and_sorted() -> None:
    requests = parse_trace(AZURE)
    assert [r.input_tokens for r in requests] == [4808, 3180, 110]
    assert [r.at_seconds for r in requests] == pytest.approx([0, 0.5, 1.252], abs=1e-5)
    assert requests[-1].output_tokens == 1


def test_plain_seconds_and_other_columns_are_read() -> None:
    requests = parse_trace("\ufeffuser,seconds,input_tokens,output_tokens\na,5,10,20\nb,7.5,30,40\n")
    assert requests == (Request(0.0, 10, 20), Request(2.5, 30, 40))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"none of the columns timestamp.*\(nothing\)"),
        ("seconds,input_tokens\n1,2\n", "none of the columns generatedtokens"),
        ("seconds,input_tokens,output_tokens\n", "no requests"),
        ("seconds,input_tokens,output_tokens\n1,2,3\n1,x,3\n", "line 3: '1,x,3'"),
        ("seconds,input_tokens,output_tokens\nyesterday,2,3\n", "line 2"),
        ("seconds,input_tokens,output_tokens\n0,2,3\nnan,2,3\n", "line 3"),
        ("seconds,input_tokens,output_tokens\ninf,2,3\n", "line 2"),
        ("seconds,input_tokens,output_tokens\n1,-2,3\n", "line 2.*negative"),
        ("seconds,input_tokens,output_tokens\n1,2\n", "line 2"),
    ],
)
def test_a_broken_trace_names_its_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_trace(text)


@given(streams, st.floats(0.1, 100))
def test_time_scaling_keeps_requests_and_order(stream: tuple[Request, ...], speed: float) -> None:
    scaled = scale_time(stream, speed)
    assert [r.input_tokens for r in scaled] == [r.input_tokens for r in stream]
    assert [r.at_seconds * speed for r in scaled] == pytest.approx([r.at_seconds for r in stream])


@given(streams, st.floats(0, 500), st.floats(1, 500))
def test_a_window_keeps_what_is_in_it(stream: tuple[Request, ...], start: float, width: float) -> None:
    cut = clip(stream, start, start + width)
    assert len(cut) == sum(start <= r.at_seconds < start + width for r in stream)
    assert all(0 <= r.at_seconds <= width for r in cut)


@given(streams, st.floats(0, 4), st.integers(0, 2**32))
def test_rate_scaling_stays_within_the_stream(stream: tuple[Request, ...], factor: float, seed: int) -> None:
    scaled = scale_rate(stream, factor, seed)
    times = [r.at_seconds for r in scaled]
    assert times == sorted(times)
    assert int(factor) * len(stream) <= len(scaled) <= (int(factor) + 1) * len(stream)
    assert all(0 <= t <= stream[-1].at_seconds for t in times)
    assert {(r.input_tokens, r.output_tokens) for r in scaled} <= {(r.input_tokens, r.output_tokens) for r in stream}
    assert scaled == scale_rate(stream, factor, seed)


def test_rate_scaling_hits_its_factor() -> None:
    stream = tuple(Request(float(i), 1, 1) for i in range(4000))
    for factor in (0.3, 1.0, 2.6):
        assert len(scale_rate(stream, factor, 1)) == pytest.approx(4000 * factor, rel=0.05)


@given(streams, st.floats(0.01, 3), st.integers(2, 4096))
def test_lengths_fit_the_context(stream: tuple[Request, ...], factor: float, context: int) -> None:
    for request in scale_lengths(stream, factor, context):
        assert request.input_tokens >= 1
        assert request.output_tokens >= 1
        assert request.input_tokens + request.output_tokens <= context


@pytest.mark.parametrize(
    ("name", "rate", "cv", "inputs", "outputs"),
    # What the 2023 Azure traces themselves show; the tables must reproduce it.
    [("azure2023-code", 2.57, 13.2, 2048, 27.9), ("azure2023-conv", 5.53, 1.09, 1155, 211.1)],
)
def test_a_published_shape_looks_like_its_trace(
    name: str, rate: float, cv: float, inputs: float, outputs: float
) -> None:
    streams = [shape(name).requests(seed) for seed in range(20)]
    gaps = [np.diff([r.at_seconds for r in stream]) for stream in streams]
    assert SHAPES[name].profile.mean_rate == pytest.approx(rate, rel=0.02)
    assert np.mean([len(s) for s in streams]) == pytest.approx(SHAPES[name].profile.expected_requests, rel=0.05)
    assert np.mean([g.std() / g.mean() for g in gaps]) == pytest.approx(cv, rel=0.15)
    assert np.mean([r.input_tokens for s in streams for r in s]) == pytest.approx(inputs, rel=0.03)
    assert np.mean([r.output_tokens for s in streams for r in s]) == pytest.approx(outputs, rel=0.06)


def test_a_published_shape_can_be_squeezed() -> None:
    squeezed = shape("azure2023-conv", mean_rate=4, duration=120)
    assert squeezed.profile.duration == pytest.approx(120)
    assert squeezed.profile.expected_requests == pytest.approx(480)
    with pytest.raises(ValueError, match="azure2023-code, azure2023-conv"):
        shape("azure2030")
