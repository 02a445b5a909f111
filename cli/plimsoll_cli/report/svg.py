"""Charts as SVG, for `sheet`: stacked bars, lines with a band, points. Colours are CSS variables of the sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

WIDTH: Final = 660
HEIGHT: Final = 300
"""View box of a chart: half a page wide, so that text keeps its size."""

BAR_WIDTH: Final = 1360
BAR_HEIGHT: Final = 40
"""View box of a stacked bar: a whole page wide."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 22, 42
_LABEL_FROM: Final = 7.2
"""Width of a character in a bar, in units of the view box: a label is drawn where it fits."""


_LINE: Final = 15.0
_LABEL_REACH: Final = 190.0
"""Labels nearer to each other than a line's height and a label's length would overlap."""


@dataclass(frozen=True)
class Piece:
    """A part of a stacked bar.

    Args:
        label: name, drawn when it fits.
        size: its share, in the bar's unit.
        colour: CSS colour.
        tip: shown beside the pointer.
    """

    label: str
    size: float
    colour: str
    tip: str


def stacked_bar(pieces: Sequence[Piece]) -> str:
    """One bar as wide as the page."""
    total = sum(piece.size for piece in pieces) or 1.0
    parts, left = [], 0.0
    for piece in pieces:
        width = piece.size / total * BAR_WIDTH
        parts.append(
            f'<rect x="{left:.1f}" y="0" width="{max(width, 0.0):.1f}" height="{BAR_HEIGHT}" fill="{piece.colour}" '
            f'tabindex="0" data-tip="{escape(piece.tip)}"/>'
        )
        if width > _LABEL_FROM * len(piece.label):
            parts.append(
                f'<text class="onbar" x="{left + 10:.1f}" y="{BAR_HEIGHT / 2 + 4:.1f}">{escape(piece.label)}</text>'
            )
        left += width
    return f'<svg viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" role="img">{"".join(parts)}</svg>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """(label, CSS colour) as a line of swatches."""
    shown = "".join(f'<span><i style="background:{colour}"></i>{escape(label)}</span>' for label, colour in entries)
    return f'<div class="legend">{shown}</div>'


@dataclass(frozen=True)
class Trace:
    """A line.

    Args:
        name: for the tooltip of its points.
        xs, ys: its points; what is not finite ends it.
        colour: CSS colour.
        faint: thin and dashed: a neighbour.
        lows, highs: a band around it; empty for none.
        tips: text beside the pointer, one per point; empty for none.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str
    faint: bool = False
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    tips: Sequence[str] = ()


@dataclass(frozen=True)
class Dot:
    """A point.

    Args:
        x, y: where.
        label: drawn beside it; empty for none.
        tip: shown beside the pointer.
        colour: CSS colour.
        strong: the chosen one: larger, its label bold.
    """

    x: float
    y: float
    label: str
    tip: str
    colour: str
    strong: bool = False


@dataclass(frozen=True)
class Frame:
    """Axes of a chart.

    Args:
        x_title, y_title: what is drawn, with units.
        right, top: ends of the axes.
        left, bottom: where they begin.
        y_text: a value of the y axis as text.
        level, level_label: a horizontal dashed line, such as an objective.
        upright, upright_label: a vertical line, such as a load line.
    """

    x_title: str
    y_title: str
    right: float
    top: float
    y_text: Callable[[float], str] = "{:g}".format
    level: float | None = None
    level_label: str = ""
    upright: float | None = None
    upright_label: str = ""
    left: float = 0.0
    bottom: float = 0.0

    def x(self, value: float) -> float:
        """Horizontal position."""
        return _LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Vertical position; what is above the chart lies on its edge."""
        share = (min(value, self.top) - self.bottom) / (self.top - self.bottom)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def chart(frame: Frame, traces: Sequence[Trace] = (), dots: Sequence[Dot] = ()) -> str:
    """Axes with lines and points."""
    parts = [*_axes(frame)]
    for trace in traces:
        parts += _band(frame, trace)
    for trace in traces:
        parts += _line(frame, trace)
    parts += _limits(frame)
    for trace in traces:
        parts += _probes(frame, trace)
    heights = _label_heights(frame, dots)
    # Points lie above all labels, so that no label hides one.
    parts += [_label(frame, dot, height) for dot, height in zip(dots, heights, strict=True) if dot.label]
    parts += [_dot(frame, dot) for dot in sorted(dots, key=lambda dot: dot.strong)]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def ticks(end: float, about: int = 5, begin: float = 0.0) -> list[float]:
    """Round values from `begin` to `end`, about as many as asked for."""
    if not (math.isfinite(end) and end > begin):
        return [begin]
    rough = (end - begin) / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    first, last = math.ceil(begin / step - 1e-9), math.floor(end / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _axes(frame: Frame) -> Iterator[str]:
    left, right, base = frame.x(frame.left), frame.x(frame.right), frame.y(frame.bottom)
    for tick in ticks(frame.top, 4, frame.bottom):
        level = frame.y(tick)
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>'
        yield f'<text x="{left - 8}" y="{level + 4:.1f}" text-anchor="end">{escape(frame.y_text(tick))}</text>'
    for tick in ticks(frame.right, 7, frame.left):
        yield f'<text x="{frame.x(tick):.1f}" y="{base + 17:.1f}" text-anchor="middle">{tick:g}</text>'
    yield f'<line class="axis" x1="{left}" x2="{right}" y1="{base:.1f}" y2="{base:.1f}"/>'
    yield f'<text x="{right}" y="{base + 35:.1f}" text-anchor="end">{escape(frame.x_title)}</text>'
    yield f'<text x="0" y="11">{escape(frame.y_title)}</text>'


def _shown(frame: Frame, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Positions of the points up to where the line leaves the chart, with the crossing of its edge."""
    found: list[tuple[float, float]] = []
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y) and y <= frame.top:
            found.append((x, y))
            continue
        if found and math.isfinite(y) and y > found[-1][1]:
            share = (frame.top - found[-1][1]) / (y - found[-1][1])
            found.append((found[-1][0] + (x - found[-1][0]) * share, frame.top))
        break
    return [(frame.x(x), frame.y(y)) for x, y in found]


def _line(frame: Frame, trace: Trace) -> Iterator[str]:
    points = _shown(frame, trace.xs, trace.ys)
    if len(points) > 1:
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        style = 'stroke-width="1.4" stroke-dasharray="5 4" opacity="0.75"' if trace.faint else 'stroke-width="2.4"'
        yield f'<path d="{path}" fill="none" stroke="{trace.colour}" {style}/>'
        if trace.faint:
            x, y = points[-1]
            at = f'x="{x - 4:.1f}" y="{max(y - 6, _TOP + 10):.1f}"'
            yield f'<text class="halo" {at} text-anchor="end">{escape(trace.name)}</text>'


def _band(frame: Frame, trace: Trace) -> Iterator[str]:
    upper, lower = _clipped(frame, trace.xs, trace.highs), _clipped(frame, trace.xs, trace.lows)
    if upper and lower:
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in [*upper, *reversed(lower)]) + "Z"
        yield f'<path d="{path}" fill="{trace.colour}" style="opacity:var(--band)"/>'


def _clipped(frame: Frame, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    return [(frame.x(x), frame.y(y)) for x, y in zip(xs, ys, strict=False) if math.isfinite(y)]


def _limits(frame: Frame) -> Iterator[str]:
    left, right, base = frame.x(frame.left), frame.x(frame.right), frame.y(frame.bottom)
    if frame.level is not None:
        level = frame.y(frame.level)
        yield (
            f'<line x1="{left}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}" stroke="var(--bad)" '
            'stroke-dasharray="6 4" stroke-width="1.5"/>'
        )
        yield f'<text x="{left + 6}" y="{level - 6:.1f}" style="fill:var(--bad)">{escape(frame.level_label)}</text>'
    if frame.upright is not None:
        x = frame.x(frame.upright)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{base:.1f}" stroke="var(--ink)" stroke-width="1.5"/>'
        yield (
            f'<text class="strong" x="{x - 6:.1f}" y="{base - 8:.1f}" text-anchor="end">'
            f"{escape(frame.upright_label)}</text>"
        )


def _probes(frame: Frame, trace: Trace) -> Iterator[str]:
    """Upright strips, one per point, that show its numbers."""
    if not trace.tips:
        return
    points = [
        (frame.x(x), frame.y(y), tip)
        for x, y, tip in zip(trace.xs, trace.ys, trace.tips, strict=True)
        if math.isfinite(y) and y <= frame.top
    ]
    edges = [frame.x(frame.left), *((a[0] + b[0]) / 2 for a, b in pairwise(points)), frame.x(frame.right)]
    for (x, y, tip), (begin, end) in zip(points, pairwise(edges), strict=False):
        height = frame.y(frame.bottom) - _TOP
        yield (
            f'<g class="probe" data-tip="{escape(tip)}">'
            f'<rect class="hit" x="{begin:.1f}" y="{_TOP}" width="{max(end - begin, 0.5):.1f}" height="{height:.1f}"/>'
            f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{trace.colour}"/></g>'
        )


def _label_heights(frame: Frame, dots: Sequence[Dot]) -> list[float]:
    """Vertical position of every label: beside its point, or below the labels that are in its way."""
    placed: list[tuple[float, float]] = []
    heights = [0.0] * len(dots)
    for index in sorted(range(len(dots)), key=lambda index: frame.y(dots[index].y)):
        x, height = frame.x(dots[index].x), frame.y(dots[index].y) + 4
        if not dots[index].label:
            continue
        while any(abs(height - other) < _LINE and abs(x - beside) < _LABEL_REACH for beside, other in placed):
            height += 2.0
        placed.append((x, height))
        heights[index] = height
    return heights


def _label(frame: Frame, dot: Dot, height: float) -> str:
    x = frame.x(dot.x)
    kind = ' class="halo strong"' if dot.strong else ' class="halo"'
    left = x + 11 + _LABEL_FROM * len(dot.label) > WIDTH
    side = f'x="{x - 11:.1f}" text-anchor="end"' if left else f'x="{x + 11:.1f}"'
    return f'<text{kind} {side} y="{height:.1f}">{escape(dot.label)}</text>'


def _dot(frame: Frame, dot: Dot) -> str:
    return (
        f'<circle cx="{frame.x(dot.x):.1f}" cy="{frame.y(dot.y):.1f}" r="{7 if dot.strong else 5}" fill="{dot.colour}" '
        f'stroke="var(--card)" stroke-width="1.5" tabindex="0" data-tip="{escape(dot.tip)}"/>'
    )
