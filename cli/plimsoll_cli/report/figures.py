"""Figures as people read them."""

from __future__ import annotations

import math


def duration_text(seconds: float | None) -> str:
    """A duration to about three figures in the unit that suits it: `812 ms`, `12.3 s`; `-` when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        if milliseconds >= 99.95:
            return f"{milliseconds:.0f} ms"
        return f"{milliseconds:.1f} ms" if milliseconds >= 9.995 else f"{milliseconds:.2f} ms"
    if seconds >= 99.95:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 9.995 else f"{seconds:.2f} s"


def share_text(share: float | None) -> str:
    """A share as a percentage to one decimal, never rounded up to 100: `99.9 %`; `-` when unknown."""
    if share is None:
        return "-"
    percent = share * 100
    if percent < 100:
        percent = math.floor(percent * 10) / 10
    return f"{percent:.1f} %".replace(".0 %", " %")


def count_and_noun(count: int, noun: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
