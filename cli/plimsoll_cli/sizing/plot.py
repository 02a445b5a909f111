"""A latency-throughput curve in plain characters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from plimsoll_cli.report.figures import duration_text

CURVE: Final = "*"
OBJECTIVE: Final = "-"
LOAD_LINE: Final = "|"
CHOSEN: Final = "O"
"""Marks of the plot; the legend names them."""

ROOM_ABOVE: Final = 1.5
"""The axis ends this much above the objective, or above the load line's latency where that is more."""

ROOM_RIGHT: Final = 1.08
"""The axis of rates ends this much beyond the highest, so that the load line is not its edge."""

BETWEEN: Final = 60
"""Marks between two points of the curve."""

_LABEL: Final = 8
"""Characters of the axis labels, such as `1.25 s`."""


@dataclass(frozen=True)
class Plot:
    """What is drawn.

    Args:
        title: name of the latency, with its percentile.
        rates: requests per second, rising.
        seconds: the latency at each rate.
        load_line: rate of the load line.
        chosen: seconds at the load line.
        objective: seconds; None when nothing is asked.
    """

    title: str
    rates: Sequence[float]
    seconds: Sequence[float]
    load_line: float
    chosen: float
    objective: float | None


def drawn(plot: Plot, width: int, height: int) -> list[str]:
    """Lines of at most `width` characters: title, `height` rows of the chart, the axis of rates and its labels."""
    columns = width - _LABEL - 2
    most = max(plot.rates) * ROOM_RIGHT
    top = _top(plot)
    rows = [[" "] * columns for _ in range(height)]
    at_line = _column(plot.load_line, most, columns)
    for row in rows:
        row[at_line] = LOAD_LINE
    if plot.objective is not None:
        level = _row(plot.objective, top, height)
        rows[level] = [OBJECTIVE if mark == " " else mark for mark in rows[level]]
    for rate, value in _dense(plot):
        if math.isfinite(value) and value <= top:
            rows[_row(value, top, height)][_column(rate, most, columns)] = CURVE
    if math.isfinite(plot.chosen) and plot.chosen <= top:
        rows[_row(plot.chosen, top, height)][at_line] = CHOSEN
    lines = [plot.title]
    for index, row in enumerate(rows):
        lines.append(f"{_label(plot, index, top, height):>{_LABEL}} |{''.join(row).rstrip()}")
    lines.append(f"{'0':>{_LABEL}} +{'-' * columns}")
    lines.append(_axis(at_line, plot.load_line, columns))
    return lines


def _dense(plot: Plot) -> Iterator[tuple[float, float]]:
    """Points close enough to each other that the curve has no gaps."""
    yield plot.rates[0], plot.seconds[0]
    for (left, low), (right, high) in pairwise(zip(plot.rates, plot.seconds, strict=True)):
        for step in range(1, BETWEEN + 1):
            share = step / BETWEEN
            yield left + (right - left) * share, low + (high - low) * share


def _column(rate: float, most: float, columns: int) -> int:
    return max(0, min(columns - 1, round(rate / most * (columns - 1))))


def _top(plot: Plot) -> float:
    wanted = max(plot.chosen if math.isfinite(plot.chosen) else 0.0, plot.objective or 0.0)
    highest = max((value for value in plot.seconds if math.isfinite(value)), default=1.0)
    return wanted * ROOM_ABOVE if plot.objective is not None else min(wanted * ROOM_ABOVE, highest * 1.05) or 1.0


def _row(value: float, top: float, height: int) -> int:
    return max(0, min(height - 1, round((1 - value / top) * (height - 1))))


def _label(plot: Plot, index: int, top: float, height: int) -> str:
    if plot.objective is not None and index == _row(plot.objective, top, height):
        return duration_text(plot.objective)
    return duration_text(top) if index == 0 else ""


def _axis(at_line: int, line: float, columns: int) -> str:
    mark = f"{line:.3g}/s"
    start = min(max(0, at_line - len(mark) // 2), columns - len(mark))
    return " " * (_LABEL + 2 + start) + mark
