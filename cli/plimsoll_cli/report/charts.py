"""Charts of a report, as HTML fragments for `page.Section`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

Values = Sequence[float | None] | NDArray[np.float64]

PALETTE: Final = ("#2f6db5", "#e08a1e", "#3a9a6b", "#b3261e", "#7a5aa6", "#5b6b7b")
"""Told apart by most people with colour vision deficiency at these weights, and in grey by their dashes."""
_OBJECTIVE_COLOUR: Final = "#b3261e"
_GRID: Final = "#e8edf1"
_HEIGHT: Final = 300
_LOG_TICKS: Final = tuple(step * 10.0**decade for decade in range(-3, 6) for step in (1, 2, 5))
"""Plotly's own ticks leave the zeros out between decades."""
_CONFIG: Final = {"displaylogo": False, "responsive": True, "displayModeBar": False}


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: for the legend.
        x, y: the points; None or NaN is a gap.
        stepped: a value holds until the next (counts, replicas).
        dash: a dashed line.
        right: belongs to the axis on the right.
    """

    name: str
    x: Values
    y: Values
    stepped: bool = False
    dash: bool = False
    right: bool = False


@dataclass(frozen=True)
class Limit:
    """A horizontal (or, in a distribution, vertical) line: an objective, a load line."""

    value: float
    label: str


@dataclass(frozen=True)
class Band:
    """A stretch of time with a name, shaded: a phase of the traffic, an outage."""

    start: float
    end: float
    label: str


def timeseries(
    lines: Sequence[Line],
    *,
    y_title: str,
    x_title: str = "seconds since the start",
    right_title: str = "",
    limits: Sequence[Limit] = (),
    bands: Sequence[Band] = (),
) -> str:
    """Lines over time, with objectives as dashed horizontal lines."""
    figure = _figure(x_title, y_title)
    for index, line in enumerate(lines):
        figure.add_trace(_trace(line, PALETTE[index % len(PALETTE)]))
    if any(line.right for line in lines):
        axis = {"overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False}
        title = {"text": right_title, "font": {"size": 13}}
        figure.update_layout(yaxis2={**axis, "title": title, "tickmode": "auto", "nticks": 6})
    for limit in limits:
        figure.add_hline(
            y=limit.value,
            line={"dash": "dash", "color": _OBJECTIVE_COLOUR, "width": 1.5},
            annotation={"text": limit.label, "font": {"color": _OBJECTIVE_COLOUR}, "xanchor": "right"},
            annotation_position="top right",
        )
    for band in bands:
        figure.add_vrect(
            x0=band.start,
            x1=band.end,
            fillcolor=PALETTE[5],
            opacity=0.08,
            line_width=0,
            # On a ground of its own: a line at the top of its axis runs through here.
            annotation={"text": band.label, "font": {"size": 11}, "bgcolor": "white", "opacity": 0.9},
            annotation_position="top left",
        )
    return _html(figure)


def cumulative(
    curves: Sequence[tuple[str, Values, Values]],
    *,
    x_title: str,
    y_title: str,
    limits: Sequence[Limit] = (),
    log: bool = False,
) -> str:
    """Cumulative distributions: for each value, the share of measurements at or below it.

    Args:
        curves: (name, values rising, shares from 0 to 1), as `ranked` gives them.
        x_title: what the measurements are, with their unit.
        y_title: whose share is counted.
        limits: objectives, as vertical lines.
        log: a logarithmic axis of values.
    """
    figure = _figure(x_title, y_title, unified=False)
    for index, (name, values, shares) in enumerate(curves):
        percent = np.asarray(shares, dtype=np.float64) * 100
        figure.add_trace(_trace(Line(name, values, percent, stepped=True), PALETTE[index % len(PALETTE)]))
    if log:
        figure.update_xaxes(type="log", tickvals=_LOG_TICKS, ticktext=[f"{tick:g}" for tick in _LOG_TICKS])
    _vertical(figure, limits, log=log)
    return _html(figure)


def ranked(values: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(sorted values, share of measurements at or below each); NaN is left out."""
    measured = np.sort(np.asarray(values, dtype=np.float64))
    measured = measured[np.isfinite(measured)]
    return measured, np.arange(1, len(measured) + 1) / max(len(measured), 1)


def _vertical(figure: Any, limits: Sequence[Limit], *, log: bool = False) -> None:
    for limit in limits:
        figure.add_vline(x=limit.value, line={"dash": "dash", "color": _OBJECTIVE_COLOUR, "width": 1.5})
        figure.add_annotation(
            x=np.log10(limit.value) if log else limit.value,
            y=0.1,  # near the foot, where a cumulative curve that reached its objective is not
            yref="paper",
            text=limit.label,
            showarrow=False,
            xanchor="left",
            xshift=4,
            font={"color": _OBJECTIVE_COLOUR},
        )


def _trace(line: Line, colour: str) -> Any:
    shape: Literal["hv", "linear"] = "hv" if line.stepped else "linear"
    return go.Scatter(
        x=line.x,
        y=line.y,
        name=line.name,
        mode="lines",
        connectgaps=False,
        line={"color": colour, "width": 2, "shape": shape, "dash": "dot" if line.dash else "solid"},
        yaxis="y2" if line.right else "y",
    )


def _figure(x_title: str, y_title: str, *, unified: bool = True) -> Any:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=_HEIGHT,
        margin={"l": 60, "r": 60, "t": 34, "b": 46},
        font={"family": 'system-ui, "Segoe UI", sans-serif', "size": 13, "color": "#1b2733"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        showlegend=True,
        hovermode="x unified" if unified else "closest",
    )
    figure.update_xaxes(title={"text": x_title, "font": {"size": 13}}, gridcolor=_GRID, zeroline=False)
    figure.update_yaxes(
        title={"text": y_title, "font": {"size": 13}}, gridcolor=_GRID, rangemode="tozero", zeroline=False
    )
    return figure


def _html(figure: Any) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG))
