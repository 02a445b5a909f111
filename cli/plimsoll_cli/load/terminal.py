"""What a person sees in the terminal: progress while it runs, tables at the end."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from plimsoll_api.v1alpha1 import format_duration
from plimsoll_cli.load.plan import Objectives, Progress
from plimsoll_cli.load.statistics import LAG_LIMIT_SECONDS, Percentiles, Summary
from plimsoll_cli.report.figures import count_and_noun, duration_text, share_text

_LINE_EVERY_SECONDS: Final = 10.0
_BAR_WIDTH: Final = 30


class ProgressDisplay:
    """A live line on a terminal; elsewhere a plain line every 10 s. Use as a context manager.

    It is drawn only when progress is told, from the same thread: a drawing thread would compete with the streams.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._next_line = _LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw where the test stands."""
        if self._live:
            self._live.update(_progress_line(progress), refresh=True)
        elif progress.elapsed >= self._next_line:
            self._next_line = progress.elapsed + _LINE_EVERY_SECONDS
            phase = "" if progress.elapsed < progress.duration else ", waiting for the last answers"
            at = f"{progress.elapsed:.0f} s of {progress.duration:.0f} s{phase}"
            self._console.print(f"{at}: {progress_text(progress)}", highlight=False)


def progress_text(progress: Progress) -> str:
    """Progress in one line of words."""
    parts = [
        f"{progress.sent}/{progress.planned} sent ({progress.offered_rate:.1f}/s)",
        f"{progress.in_flight} in flight",
        f"TTFT p95 {duration_text(progress.ttft_p95)}",
        f"{progress.failed} failed",
        f"{progress.truncated} truncated",
    ]
    if progress.lag_p99 > LAG_LIMIT_SECONDS:
        parts.append(f"own lag p99 {duration_text(progress.lag_p99)}")
    return ", ".join(parts)


def _progress_line(progress: Progress) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=progress.duration, completed=min(progress.elapsed, progress.duration), width=_BAR_WIDTH)
    phase = f"{progress.elapsed:.0f} s" if progress.elapsed < progress.duration else "last answers"
    style = "red" if progress.failed or progress.truncated else ""
    grid.add_row(bar, phase, Text(progress_text(progress), style=style))
    return grid


def summary_view(summary: Summary, objectives: Objectives) -> RenderableType:
    """The whole result for the terminal."""
    parts: list[RenderableType] = [Text(headline(summary, objectives), style="bold"), _latencies(summary, objectives)]
    parts.append(_counts(summary))
    if summary.errors:
        errors = Table(title="Errors", title_justify="left", show_header=False)
        for text, count in summary.errors.items():
            errors.add_row(str(count), Text(text))  # a server's words, in which brackets are no markup
        parts.append(errors)
    parts.append(_lag(summary))
    return Group(*parts)


def headline(summary: Summary, objectives: Objectives) -> str:
    """The result in one sentence."""
    sent = count_and_noun(summary.sent, "request")
    whole = "all whole" if not summary.misses else f"{summary.misses} without a whole answer"
    if summary.abandoned:
        whole += f", {summary.abandoned} dropped when stopped"
    text = f"{sent} at {summary.offered_rate:.2f}/s, {whole}"
    if has_limits(objectives) and summary.attainment is not None:
        verdict = "meets" if summary.attainment >= objectives.attainment else "misses"
        text += (
            f"; {share_text(summary.attainment)} within the objectives, "
            f"which {verdict} the {share_text(objectives.attainment)} asked for"
        )
    return text


def has_limits(objectives: Objectives) -> bool:
    """Whether any objective is set."""
    return any(limit is not None for limit in (objectives.ttft, objectives.tpot, objectives.e2e))


def _latencies(summary: Summary, objectives: Objectives) -> Table:
    table = Table(
        title="Latency from the scheduled time", title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for column in ("mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(f"goal p{objectives.percentile}", no_wrap=True)
    rows: tuple[tuple[str, Percentiles, float | None, bool], ...] = (
        ("TTFT", summary.ttft, objectives.ttft, is_met("ttft", summary, objectives)),
        ("  from send", summary.ttft_from_send, None, False),
        ("TPOT", summary.tpot, objectives.tpot, is_met("tpot", summary, objectives)),
        ("ITL", summary.itl, None, False),
        ("E2E", summary.e2e, objectives.e2e, is_met("e2e", summary, objectives)),
    )
    for name, values, limit, met in rows:
        figures = (values.mean, values.p50, values.p90, values.p95, values.p99, values.maximum)
        table.add_row(name, *map(duration_text, figures), _against(limit, met))
    return table


def is_met(name: str, summary: Summary, objectives: Objectives) -> bool:
    """Whether an objective holds at its percentile, of all requests: those without an answer took longer than any."""
    return (summary.within.get(name) or 0.0) >= objectives.percentile / 100


def _against(limit: float | None, met: bool) -> Text:
    if limit is None:
        return Text("")
    return Text(f"{format_duration(limit)} {'met' if met else 'missed'}", style="green" if met else "red")


def _counts(summary: Summary) -> Table:
    table = Table.grid(padding=(0, 2))
    bad: Callable[[int], str] = lambda count: "red" if count else ""  # noqa: E731
    table.add_row(
        "completed",
        str(summary.completed),
        "failed",
        Text(str(summary.failed), style=bad(summary.failed)),
        "timed out",
        Text(str(summary.timed_out), style=bad(summary.timed_out)),
        "truncated",
        Text(str(summary.truncated), style=bad(summary.truncated)),
    )
    table.add_row(
        "output tokens/s",
        f"{summary.output_tokens_per_second:.0f}",
        "goodput",
        f"{summary.goodput:.2f}/s",
        "elapsed",
        duration_text(summary.elapsed),
    )
    minutes = summary.requests_per_minute
    shown = " ".join(map(str, minutes[:20])) + (" ..." if len(minutes) > 20 else "")
    table.add_row("requests/minute", shown)
    return table


def _lag(summary: Summary) -> Text:
    lag = summary.lag
    text = (
        f"own scheduling lag p50 {duration_text(lag.p50)}, p99 {duration_text(lag.p99)}, "
        f"max {duration_text(lag.maximum)}; event loop p99 {duration_text(summary.loop_delay.p99)}"
    )
    if summary.trusted:
        return Text(text, style="dim")
    advice = (
        f"Above {duration_text(LAG_LIMIT_SECONDS)} this machine's own delay shows in the latencies: do not trust them; "
        "use a faster or idler machine, or a lower rate."
    )
    return Text(f"WARNING: {text}. {advice}", style="bold yellow")
