"""The HTML report's pieces: self-contained, escaped, complete."""

from __future__ import annotations

import numpy as np

from plimsoll_cli.report.charts import Band, Limit, Line, cumulative, ranked, timeseries
from plimsoll_cli.report.figures import duration_text, share_text
from plimsoll_cli.report.page import Section, Tile, page, paragraph
from plimsoll_cli.report.tables import percentile_table, table


def test_a_page_holds_plotly_once_and_asks_for_nothing() -> None:
    chart = timeseries([Line("a", [0, 1], [1, None])], y_title="x", limits=[Limit(1, "goal")], bands=[Band(0, 1, "b")])
    text = page("Title", "Summary", [Section("One", chart), Section("Two", chart)], [Tile("5", "things", "good")])
    assert text.count("plotly.js v") == 1
    head, _, body = text.partition("</head>")
    assert "src=" not in body
    assert '<script src="' not in head
    assert len(text) < 6_000_000


def test_texts_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    text = page(evil, evil, [Section(evil, paragraph(evil) + table([evil], [[evil]]), evil)], [Tile(evil, evil)])
    assert evil not in text


def test_a_percentile_table_shows_durations_and_gaps() -> None:
    text = percentile_table([("TTFT", [0.0125, None], "met")], ["p50", "p95"])
    assert "12.5 ms" in text
    assert "<td>-</td>" in text


def test_ranks_leave_out_what_was_not_measured() -> None:
    values, shares = ranked([3.0, float("nan"), 1.0])
    assert values.tolist() == [1.0, 3.0]
    assert shares.tolist() == [0.5, 1.0]
    assert "share" in cumulative([("a", values, shares)], x_title="s", y_title="share", log=True)
    assert len(ranked(np.array([]))[0]) == 0


def test_figures_read_well() -> None:
    assert [duration_text(s) for s in (None, 0.00123, 0.0125, 0.8, 1.5, 12.0, 120)] == [
        "-", "1.23 ms", "12.5 ms", "800 ms", "1.50 s", "12.0 s", "120 s",
    ]  # fmt: skip
    assert [share_text(s) for s in (None, 1.0, 0.9999, 0.5)] == ["-", "100 %", "99.9 %", "50 %"]
