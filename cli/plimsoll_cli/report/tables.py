"""Tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from plimsoll_cli.report.figures import duration_text


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = ()) -> str:
    """A table of plain texts; figures stand right, the first column and `text_columns` left."""
    head = "".join(f"<th{_kind(index in text_columns)}>{escape(name)}</th>" for index, name in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(f"<td{_kind(index in text_columns)}>{escape(cell)}</td>" for index, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def percentile_table(rows: Sequence[tuple[str, Sequence[float | None], str]], columns: Sequence[str]) -> str:
    """Durations as rows of (name, seconds per column, remark), such as the objective and whether it is met."""
    header = ["", *columns, "objective"]
    return table(header, [[name, *map(duration_text, seconds), remark] for name, seconds, remark in rows])


def _kind(is_text: bool) -> str:
    return ' class="text"' if is_text else ""
