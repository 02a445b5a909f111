"""Durations and decimals as the API writes them: strings, never floats.

Kubernetes objects are compared, hashed and applied as JSON; floats do not survive that, so the API carries
`"800ms"`, `"3.20"` and `"0.99"` and these functions turn them into numbers and back.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
DECIMAL_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?$"
# A fraction in (0, 1]: attainment, GPU memory fraction.
FRACTION_PATTERN: Final = r"^(0\.[0-9]*[1-9][0-9]*|1(\.0+)?)$"

_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS_PER_UNIT: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_LENGTH: Final = 32


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `800ms`, `1m30s` or `1.5h`.

    Raises:
        ValueError: the text is not a sequence of numbers each followed by ms, s, m or h.
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write numbers with units ms, s, m or h, such as 800ms or 1m30s")
    return sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in _DURATION_PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest API duration for a number of seconds, to the millisecond: `0.8` -> `800ms`, `90` -> `90s`."""
    milliseconds = round(seconds * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    whole = milliseconds // 1000
    if whole and whole % 3600 == 0:
        return f"{whole // 3600}h"
    return f"{whole}s"


def format_decimal(value: float, digits: int = 3) -> str:
    """A decimal string with at most `digits` decimals and no trailing zeros: `2.50` -> `2.5`, `3.0` -> `3`."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=_MAX_LENGTH), AfterValidator(_check_duration)]
"""A non-negative duration string."""

Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=_MAX_LENGTH)]
"""A non-negative decimal string."""

Fraction = Annotated[str, Field(pattern=FRACTION_PATTERN, max_length=_MAX_LENGTH)]
"""A decimal string in (0, 1]."""
