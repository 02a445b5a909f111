"""Requests' bodies: what is served, what is refused, and what the output will be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_runtime.engine import generation, tokens
from plimsoll_runtime.engine.api_errors import ApiError
from plimsoll_runtime.engine.generation import Generation, Limits

LIMITS = Limits(("m", "alias"), max_model_len=100, block_size=4)


def parse(body: Any, *, chat: bool = False) -> Generation:
    """Parse a body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return generation.parse(raw, chat=chat, limits=LIMITS)


def test_four_characters_are_a_token_and_ids_count_exactly() -> None:
    assert parse({"prompt": "abcdefghi"}).prompt_tokens == 3
    assert parse({"prompt": [1, 2, 3, 4, 5]}).prompt_tokens == 5
    assert all(len(word) == tokens.CHARACTERS_PER_TOKEN for word in tokens.WORDS)


def test_lengths() -> None:
    assert len(parse({"prompt": "hello", "max_tokens": 7, "ignore_eos": True}).output) == 7
    assert len(parse({"prompt": "hello", "ignore_eos": True}).output) == generation.COMPLETION_MAX_TOKENS
    long = parse({"messages": [{"role": "user", "content": "hi"}], "ignore_eos": True}, chat=True)
    assert long.prompt_tokens + len(long.output) == LIMITS.max_model_len
    assert long.finish_reason == "length"
    assert len(parse({"prompt": [1] * 98, "max_tokens": 50, "ignore_eos": True}).output) == 2


def test_answers_end_by_themselves_at_seeded_lengths() -> None:
    limits = Limits(("m",), max_model_len=100_000, block_size=4)
    lengths = []
    for seed in range(60):
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "seed": seed}).encode()
        first, again = (generation.parse(body, chat=True, limits=limits) for _ in range(2))
        assert first == again
        assert first.finish_reason == "stop"
        lengths.append(len(first.output))
    assert 100 < sorted(lengths)[30] < 400
    assert len(set(lengths)) > 30


def test_min_tokens_keeps_an_answer_from_ending() -> None:
    for seed in range(30):
        answer = parse({"prompt": [1], "max_tokens": 95, "min_tokens": 90, "seed": seed})
        assert len(answer.output) >= 90


@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 100))
def test_stop_strings(start: int, length: int, seed: int) -> None:
    body = {"prompt": [1], "max_tokens": 60, "ignore_eos": True, "seed": seed}
    whole = "".join(parse(body).output)
    stop = whole[start : start + length]
    answer = parse({**body, "stop": stop})
    assert "".join(answer.output) == whole[: whole.index(stop)]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", stop)
    # The token that completes the stop string is the last one computed.
    end = whole.index(stop) + len(stop)
    assert len(answer.output) == -(-end // tokens.CHARACTERS_PER_TOKEN)


def test_blocks_are_shared_up_to_the_first_difference() -> None:
    first = tokens.block_hashes("a" * 64 + "b" * 64, 4)
    second = tokens.block_hashes("a" * 64 + "c" * 64, 4)
    assert len(first) == 8
    assert first[:4] == second[:4]
    assert not set(first[4:]) & set(second[4:])
    assert len(tokens.block_hashes([1] * 9, 4)) == 2


@pytest.mark.parametrize(
    ("body", "chat", "status", "words"),
    [
        (b"{", False, 400, "JSON decode error"),
        (b"\xff", False, 400, "error"),
        ([], False, 400, "valid dictionary"),
        ({"prompt": "x", "model": "other"}, False, 404, "Valid aliases: m, alias"),
        ({"prompt": "x", "n": 2}, False, 400, "one choice"),
        ({"prompt": ["a", "b"]}, False, 400, "no batches"),
        ({"prompt": 5}, False, 400, "valid string"),
        ({"prompt": "x", "max_tokens": 1.5}, False, 400, "valid integer"),
        ({"prompt": "x", "top_p": 0}, False, 400, "top_p"),
        ({"prompt": "x", "stop": ["a"] * 5}, False, 400, "at most 4 items"),
        ({"messages": 5}, True, 400, "valid list"),
        ({"messages": ["x"]}, True, 400, "Field required"),
        ({"prompt": "x" * 500}, False, 400, "maximum context length is 100 tokens"),
    ],
)
def test_what_cannot_be_served_is_refused(body: Any, chat: bool, status: int, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body, chat=chat)
    assert caught.value.status == status
    assert words in caught.value.message
    assert caught.value.body()["error"]["code"] == status


def test_numbers_are_taken_as_vllm_takes_them() -> None:
    """In pydantic's lax mode: tried with vLLM 0.32's CompletionRequest."""
    for five in (5, "5", 5.0, " 5 ", "5.0"):
        assert len(parse({"prompt": "hello", "max_tokens": five, "ignore_eos": True}).output) == 5
    assert parse({"prompt": "hello", "seed": "7"}).output == parse({"prompt": "hello", "seed": 7}).output


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ({"seed": "a"}, "int_parsing"),
        ({"seed": 1.5}, "int_from_float"),
        ({"seed": [1]}, "int_type"),
        ({"seed": 2**70}, "less_than_equal"),
        ({"seed": -(2**70)}, "greater_than_equal"),
        ({"max_tokens": 5.5}, "int_from_float"),
        ({"min_tokens": "x"}, "int_parsing"),
        ({"stop": 5}, "string_type"),
        ({"stop": ["a", 1]}, "string_type"),
        ({"stream": True, "stream_options": "x"}, "model_type"),
    ],
)
def test_types_are_refused_with_pydantics_kind(field: dict[str, Any], kind: str) -> None:
    """As vLLM 0.32's CompletionRequest does; none of them is a fault of the engine."""
    with pytest.raises(ApiError) as refused:
        parse({"prompt": "hello", **field})
    assert refused.value.status == 400
    assert f"'{kind}'" in str(refused.value.body())
