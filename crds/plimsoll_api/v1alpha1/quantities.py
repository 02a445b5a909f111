"""Durations and decimals as the API writes them: strings, never floats.

Kubernetes objects are compared, hashed and applied as JSON; floats do not survive that, so the API carries
`"800ms"`, `"3.20"` and `"0.99"` and these functions turn them into numbers and back.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from plimsoll_api.v1alpha1.base import Rule, cel_string, matching

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


def is_duration(path: str) -> str:
    """A CEL condition: the field at `path` is a well-formed duration, so that `duration(path)` cannot fail."""
    return f"{path}.matches({cel_string(DURATION_PATTERN)})"


def _duration_between(low: str, high: str) -> Rule:
    """The rule that a well-formed duration lies within two bounds, both included."""
    return Rule(
        cel=f"!{is_duration('self')} || (duration(self) >= duration('{low}') && duration(self) <= duration('{high}'))",
        message=f"must be between {low} and {high}",
        holds=lambda text: parse_duration(low) <= parse_duration(text) <= parse_duration(high),
    )


def _decimal_between(low: str, high: str, *, low_included: bool) -> Rule:
    """The rule that an integer or a decimal string lies within two bounds, the upper one included."""
    above = ">=" if low_included else ">"
    number = "double(string(self))"
    return Rule(
        cel=f"!string(self).matches({cel_string(DECIMAL_PATTERN)}) || "
        f"({number} {above} {float(low)} && {number} <= {float(high)})",
        message=f"must be {'at least' if low_included else 'greater than'} {low} and at most {high}",
        holds=lambda text: (
            (float(text) >= float(low) if low_included else float(text) > float(low)) and float(text) <= float(high)
        ),
    )


def _digits(value: Any) -> Any:
    """An integer as its digits; anything else as it is, for the type check that follows."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_TEXT: Final = Field(max_length=_MAX_LENGTH)
_IS_DURATION: Final = matching(
    DURATION_PATTERN, "must be a duration: numbers with units ms, s, m or h, such as 800ms, 2s or 1m30s"
)
_INTEGER_OR_TEXT: Final = Field(max_length=_MAX_LENGTH, json_schema_extra={"x-kubernetes-int-or-string": True})
_IS_DECIMAL: Final = Rule(
    cel=f"string(self).matches({cel_string(DECIMAL_PATTERN)})",
    message='must be a number that is not negative, in quotes when it has decimals, such as 4 or "3.20"',
    holds=lambda text: re.fullmatch(DECIMAL_PATTERN, text) is not None,
)

Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=_MAX_LENGTH)]
"""A non-negative duration string of a status."""

Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=_MAX_LENGTH)]
"""A non-negative decimal string of a status."""

ResponseTime = Annotated[str, _TEXT, _IS_DURATION, _duration_between("1ms", "24h")]
"""A latency target: more than nothing, at most a day (a batch service's)."""

Patience = Annotated[str, _TEXT, _IS_DURATION, _duration_between("0s", "24h")]
"""How long something must last before it is acted on; zero acts at once."""

IdleTime = Annotated[str, _TEXT, _IS_DURATION, _duration_between("1m", "168h")]
"""Time without a request before a service stops: not shorter than a start takes, at most a week."""

DrainTime = Annotated[str, _TEXT, _IS_DURATION, _duration_between("0s", "1h")]
"""Time to finish streams; it becomes the pod's grace period and with it the longest a node drain can take."""

StartTime = Annotated[str, _TEXT, _IS_DURATION, _duration_between("10s", "24h")]
"""Time to load a model; less than the smallest engine takes would restart it for ever."""

Rate = Annotated[
    str, BeforeValidator(_digits), _INTEGER_OR_TEXT, _IS_DECIMAL, _decimal_between("0", "1000000", low_included=False)
]
"""A number greater than 0: an integer or a decimal string; a string to Python."""

Price = Annotated[
    str, BeforeValidator(_digits), _INTEGER_OR_TEXT, _IS_DECIMAL, _decimal_between("0", "1000000", low_included=True)
]
"""Money per hour, 0 for what is paid for already: an integer or a decimal string; a string to Python."""

Fraction = Annotated[
    str, _TEXT, matching(FRACTION_PATTERN, 'must be a fraction greater than 0 and at most 1, in quotes, such as "0.9"')
]
"""A decimal string in (0, 1]."""
