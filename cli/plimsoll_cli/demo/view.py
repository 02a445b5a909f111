"""The demo's live terminal view: a table of the service and its last minutes as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from plimsoll_cli.demo.snapshot import Snapshot

_BARS: Final = " ▁▂▃▄▅▆▇█"
_SPARK_WIDTH: Final = 60
_DIAGNOSIS_STYLE: Final = {
    "Normal": "green",
    "Underload": "cyan",
    "Overload": "bold yellow",
    "Degraded": "bold red",
    "Stalled": "bold red",
    "Blind": "bold magenta",
}


def sparkline(values: Sequence[float | None], width: int = _SPARK_WIDTH) -> str:
    """The last `width` values as block characters, scaled to their maximum; a gap is a space."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    if top <= 0:
        return " " * len(shown)
    return "".join(" " if v is None else _BARS[max(1, round(v / top * 8)) if v > 0 else 0] for v in shown)


def _figure(value: float | None, unit: str = "", digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _replica_cells(now: Snapshot) -> Text:
    text = Text()
    text.append("■ " * now.ready, style="green")
    text.append("□ " * now.pending, style="yellow")
    text.append("▨ " * now.draining, style="dim")
    return text


def _numbers(now: Snapshot, objectives: str) -> Table:
    table = Table.grid(padding=(0, 3))
    wanted = "-" if now.wanted is None else str(now.wanted)
    table.add_row("replicas wanted", f"[bold]{wanted}[/]", "ready", str(now.ready), "pending", str(now.pending))
    table.add_row(
        "requests/s",
        _figure(now.requests_per_second),
        "load line",
        _figure(now.load_line, " req/s each"),
        "queue",
        _figure(now.waiting, digits=0),
    )
    table.add_row(
        "TTFT",
        _milliseconds(now.ttft),
        "TPOT",
        _milliseconds(now.tpot),
        "attainment",
        "-" if now.attainment is None else f"{now.attainment * 100:.1f} %",
    )
    table.add_row("objectives", objectives)
    return table


def render(snapshots: Sequence[Snapshot], *, title: str, phase: str, objectives: str, client: str) -> RenderableType:
    """The whole view for the newest snapshot.

    Args:
        snapshots: all so far, oldest first; at least one.
        title: the service's name.
        phase: what the traffic is doing now, in words.
        objectives: the objectives in words.
        client: what the load generator sees, in one line.
    """
    now = snapshots[-1]
    trends = Table.grid(padding=(0, 2))
    trends.add_row("requests/s", sparkline([s.requests_per_second for s in snapshots]))
    trends.add_row("queue", sparkline([s.waiting for s in snapshots]))
    trends.add_row("ready", sparkline([float(s.ready) for s in snapshots]))
    diagnosis = Text(now.diagnosis, style=_DIAGNOSIS_STYLE.get(now.diagnosis, ""))
    body = Group(
        _replica_cells(now),
        _numbers(now, objectives),
        Text(""),
        trends,
        Text(""),
        Text.assemble("diagnosis  ", diagnosis),
        Text.assemble("because    ", now.reason),
        Text.assemble("clients    ", client),
    )
    return Panel(body, title=f"{title}  {now.at:+.0f} s  {phase}", title_align="left", expand=True)


def log_line(now: Snapshot, phase: str) -> str:
    """The same in one line, for output that is not a terminal."""
    return (
        f"{now.at:+6.0f} s  {phase:<10}  wanted {now.wanted if now.wanted is not None else '-'}  ready {now.ready}  "
        f"pending {now.pending}  queue {_figure(now.waiting, digits=0)}  {_figure(now.requests_per_second)} req/s  "
        f"TTFT {_milliseconds(now.ttft)}  {now.diagnosis}: {now.reason}"
    )
