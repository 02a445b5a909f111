"""How measured numbers are written in messages: with as many digits as they are good for. Pure."""

from __future__ import annotations

import math

from plimsoll_api.v1alpha1 import format_decimal


def significant(value: float, digits: int = 2) -> str:
    """A number with so many significant digits, as a decimal: two are what the measurements are good for."""
    if value == 0 or not math.isfinite(value):
        return format_decimal(0.0)
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return format_decimal(round(value, places), max(places, 0))


def seconds(value: float) -> str:
    """Seconds as people write them: `83ms`, `1.4s`."""
    return f"{significant(value * 1000)}ms" if value < 1 else f"{significant(value)}s"


def replicas(count: int) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{count} replica" if count == 1 else f"{count} replicas"
