"""Durations and decimals, and the strings of the API that stand for them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_api.v1alpha1 import format_decimal, format_duration, parse_duration
from plimsoll_api.v1alpha1.quantities import DECIMAL_PATTERN, DURATION_PATTERN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("800ms", 0.8), ("2s", 2.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("0s", 0.0), ("1h1m1s1ms", 3661.001)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "fast", "-1s", "1d", "1 s", "1s\n", ".5s", "1.s"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_survives_to_the_millisecond(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert re.fullmatch(DURATION_PATTERN, text)
    assert parse_duration(text) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.floats(min_value=0, max_value=1e9), st.integers(min_value=0, max_value=6))
def test_a_decimal_survives_to_its_digits(value: float, digits: int) -> None:
    text = format_decimal(value, digits)
    assert re.fullmatch(DECIMAL_PATTERN, text)
    assert float(text) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-6)
    assert "." not in text or not text.endswith("0")
