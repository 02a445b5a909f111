"""Tables of services, and one service whole (pure: figures and manifests in, renderables out)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plimsoll_cli.services.figures import ServiceFigures

_COLOURS: Final = {
    "Normal": "green",
    "Underload": "green",
    "Overload": "yellow",
    "Degraded": "yellow",
    "Stalled": "red",
    "Blind": "red",
}
_BAD_WHEN_TRUE: Final = frozenset({"Degraded"})
"""Conditions for which True is the bad news."""


def status_table(services: Sequence[ServiceFigures], *, namespaces: bool) -> RenderableType:
    """One line per service: does it run, do its users get what was promised."""
    table = _table(
        "NAME", "MODEL", "GPU", "READY", "DIAGNOSIS", "TTFT", "TPOT", "ATTAINMENT", "AGE", namespaces=namespaces
    )
    for one in services:
        row: list[RenderableType] = [
            one.name,
            one.model,
            one.accelerator or "-",
            _ready(one),
            Text(one.diagnosis or "-", style=_COLOURS.get(one.diagnosis, "")),
            duration(one.ttft),
            duration(one.tpot),
            share(one.attainment),
            age(one.age),
        ]
        _row(table, *([one.namespace] if namespaces else []), *row)
    return table


def top_table(services: Sequence[ServiceFigures], *, namespaces: bool) -> RenderableType:
    """One line per service, the most loaded first: what it carries and what that costs."""
    table = _table(
        "NAME", "LOAD", "REQ/S", "LINE", "RUN", "WAIT", "READY", "COST/H", "COST/1M TOKENS", namespaces=namespaces
    )
    for one in by_load(services):
        row: list[RenderableType] = [
            one.name,
            Text(share(one.load), style="red" if (one.load or 0) > 1 else ""),
            number(one.arrivals),
            number(one.load_line),
            number(one.running),
            number(one.waiting),
            _ready(one),
            number(one.cost_per_hour),
            number(one.cost_per_million),
        ]
        _row(table, *([one.namespace] if namespaces else []), *row)
    return table


def by_load(services: Iterable[ServiceFigures]) -> list[ServiceFigures]:
    """The most loaded first; those without a load last, by name."""
    return sorted(services, key=lambda one: (one.load is None, -(one.load or 0.0), one.namespace, one.name))


def status_view(service: Mapping[str, Any], figures: ServiceFigures) -> RenderableType:
    """One service: how it stands, what is said of it, what was decided."""
    status = service.get("status") or {}
    head = Text.assemble((f"{figures.namespace}/{figures.name}", "bold"), f"  {figures.model}")
    parts: list[RenderableType] = [head, _facts(figures, status), _conditions(status.get("conditions") or ())]
    if history := status.get("history"):
        parts.append(_history(history))
    return Group(*parts)


def explain_view(service: Mapping[str, Any], figures: ServiceFigures) -> RenderableType:
    """Why one service has its configuration: every field's reason, memory, prediction, and what was not chosen."""
    recommendation = (service.get("status") or {}).get("recommendation")
    head = Text.assemble((f"{figures.namespace}/{figures.name}", "bold"), f"  {figures.model}")
    if not recommendation:
        return Group(head, _conditions((service.get("status") or {}).get("conditions") or ()))
    reasons = _table("FIELD", "VALUE", "BECAUSE")
    for reason in recommendation["reasons"]:
        _row(reasons, reason["field"], reason["value"], reason["because"])
    confidence = Text(f"confidence {recommendation['confidence']}")
    parts: list[RenderableType] = [
        head, confidence, reasons, _memory(recommendation["ledger"]), _predicted(recommendation, service)
    ]  # fmt: skip
    if alternatives := recommendation.get("alternatives"):
        table = _table("NOT CHOSEN", "COST/H", "BECAUSE")
        for one in alternatives:
            _row(table, one["summary"], one.get("hourlyCost") or "-", one["rejectedBecause"])
        parts.append(table)
    return Group(*parts)


def _facts(figures: ServiceFigures, status: Mapping[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    decision = status.get("decision") or {}
    for name, value in (
        ("replicas", f"{_ready(figures)} ready, {status.get('replicas', 0)} exist"),
        ("runs on", figures.accelerator or "-"),
        ("diagnosis", f"{figures.diagnosis or '-'}: {figures.diagnosis_message}"),
        ("decision", decision.get("message") or "-"),
        ("load", f"{share(figures.load)} of the load line, {number(figures.arrivals)} requests/s"),
        ("TTFT, TPOT", f"{duration(figures.ttft)}, {duration(figures.tpot)}; attainment {share(figures.attainment)}"),
        ("cost per hour", number(figures.cost_per_hour)),
        ("url", status.get("url") or "-"),
    ):
        _row(table, Text(name, style="dim"), value)
    return table


def _conditions(conditions: Iterable[Mapping[str, Any]]) -> RenderableType:
    table = _table("CONDITION", "STATUS", "REASON", "MESSAGE")
    for one in conditions:
        good = (one["status"] == "True") != (one["type"] in _BAD_WHEN_TRUE)
        style = "yellow" if one["status"] == "Unknown" else "green" if good else "red"
        _row(table, one["type"], Text(one["status"], style=style), one["reason"], one["message"])
    return table


def _history(history: Iterable[Mapping[str, Any]]) -> RenderableType:
    table = _table("AT", "REPLICAS", "WHY")
    for one in history:
        _row(table, one["at"], f"{one['before']} -> {one['after']}", one.get("message") or one["reason"])
    return table


def _memory(ledger: Mapping[str, Any]) -> RenderableType:
    table = _table("MEMORY OF ONE GPU", "GIB")
    for field, name in (
        ("weightsGib", "weights"),
        ("activationPeakGib", "activations of the largest step"),
        ("nonTorchGib", "outside the framework"),
        ("cudaGraphsGib", "CUDA graphs"),
        ("kvCacheGib", "KV cache"),
        ("totalGib", "in all"),
    ):
        _row(table, name, str(ledger[field]))
    return table


def _predicted(recommendation: Mapping[str, Any], service: Mapping[str, Any]) -> RenderableType:
    predicted, observed = recommendation["predicted"], (service.get("status") or {}).get("observed") or {}
    table = _table("OF ONE REPLICA", "PREDICTED", "MEASURED")
    _row(table, "TTFT", predicted["ttft"], observed.get("ttft") or "-")
    _row(table, "TPOT", predicted["tpot"], observed.get("tpot") or "-")
    _row(table, "load line, requests/s", predicted["loadLineRequestsPerSecond"], observed.get("loadLine") or "-")
    return table


def _table(*columns: str, namespaces: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in (*(["NAMESPACE"] if namespaces else []), *columns):
        table.add_column(column, overflow="fold")
    return table


def _row(table: Table, *cells: RenderableType) -> None:
    """A row in which text is text: brackets in what the cluster says are no markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _ready(one: ServiceFigures) -> str:
    return f"{one.ready or 0}/{'-' if one.wanted is None else one.wanted}"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def share(value: float | None) -> str:
    """Per cent, or a dash."""
    return "-" if value is None else f"{value * 100:.3g} %"


def duration(value: float | None) -> str:
    """Seconds in the unit people say, or a dash."""
    if value is None:
        return "-"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def age(seconds: float) -> str:
    """As kubectl prints an age."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"
