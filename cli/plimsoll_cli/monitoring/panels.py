"""The kinds of panel the dashboards are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from plimsoll_api import series as engine
from plimsoll_api import service_series as own
from plimsoll_api.names import SERIES_NAMESPACE, SERIES_SERVICE

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTED: Final = f'{SERIES_NAMESPACE}="$namespace",{SERIES_SERVICE}="$llmservice"'
"""The labels of the service that is looked at."""

WIDE: Final = 24
HALF: Final = 12
THIRD: Final = 8
QUARTER: Final = 6
TALL: Final = 8
SHORT: Final = 4


def by(label: str) -> str:
    """Legend that names each line by a label.

    >>> by("pod")
    '{{pod}}'
    """
    return f"{{{{{label}}}}}"


@dataclass(frozen=True)
class Line:
    """One query of a panel and the name of its series."""

    expr: str
    legend: str = ""


def _targets(lines: Sequence[Line], *, instant: bool = False, heat: bool = False) -> list[Any]:
    queries = []
    for index, line in enumerate(lines):
        query = prometheus.Dataquery().expr(line.expr).legend_format(line.legend or "__auto").ref_id(chr(65 + index))
        query = query.instant() if instant else query.range()
        if heat:
            query = query.format(prometheus_models.PromQueryFormat.HEATMAP)
        elif instant:
            query = query.format(prometheus_models.PromQueryFormat.TABLE)
        queries.append(query)
    return queries


def lines(title: str, text: str, unit: str, *queries: Line, span: int = HALF, stacked: bool = False) -> Any:
    """Lines over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .min(0)
        .datasource(DATASOURCE)
        .span(span)
        .height(TALL)
        .line_width(2)
        .fill_opacity(30 if stacked else 5)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        .targets(_targets(queries))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    return panel


def latencies(title: str, text: str, recorded: str) -> Any:
    """A histogram's buckets as a heat map, from their recorded rate."""
    expr = f"sum by ({engine.LABEL_BUCKET}) (avg_over_time({recorded}{{{SELECTED}}}[$__rate_interval]))"
    return (
        heatmap.Panel()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .span(HALF)
        .height(TALL)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .targets(_targets([Line(expr, by(engine.LABEL_BUCKET))], heat=True))
    )


def figure(title: str, text: str, unit: str, query: Line, *, span: int = SHORT, bad_above: float | None = None) -> Any:
    """One number, red above a bound."""
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .datasource(DATASOURCE)
        .span(span)
        .height(SHORT)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .targets(_targets([query]))
    )
    if bad_above is not None:
        steps = [models.Threshold(value=None, color="green"), models.Threshold(value=bad_above, color="red")]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    return panel


def states(title: str, text: str, query: Line) -> Any:
    """Which of several states held when."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .span(WIDE)
        .height(QUARTER)
        .targets(_targets([query]))
    )


def rows(title: str, text: str, *queries: Line, span: int = WIDE) -> Any:
    """A table of what holds now, one column per query."""
    return (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .span(span)
        .height(TALL)
        .targets(_targets(queries, instant=True))
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    )


def board(uid: str, title: str, text: str, *, service: bool) -> Any:
    """An empty dashboard with its variables.

    Args:
        uid: stable identity, so that links and upgrades keep it.
        title: what it shows.
        text: for whom.
        service: whether one service is chosen.
    """
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["plimsoll"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Plimsoll")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["plimsoll"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    return _with_service(made) if service else made


def _with_service(made: Any) -> Any:
    def variable(name: str, query: str) -> Any:
        return (
            dashboard.QueryVariable(name)
            .datasource(DATASOURCE)
            .query(query)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
        )

    chosen = f'{own.WANTED_REPLICAS}{{{SERIES_NAMESPACE}="$namespace"}}'
    return made.with_variable(
        variable("namespace", f"label_values({own.WANTED_REPLICAS}, {SERIES_NAMESPACE})")
    ).with_variable(variable("llmservice", f"label_values({chosen}, {SERIES_SERVICE})"))
