"""One self-contained HTML page: a headline, figures that matter, and sections. Opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from plotly.offline import get_plotlyjs

from plimsoll_cli.report.parts import Section, Tile, Tone, paragraph, section_html, tiles_html

__all__ = ["Section", "Tile", "Tone", "page", "paragraph"]

_STYLE: Final = """
:root { --ink: #1b2733; --soft: #5b6b7b; --line: #dfe5ea; --paper: #f5f7f9; --good: #1a7f4b; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 6px; }
h2 { font-size: 17px; margin: 0 0 10px; }
.summary { font-size: 17px; margin: 0 0 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0 0 16px; }
.tile, section { background: #fff; border: 1px solid var(--line); border-radius: 8px; }
.tile { padding: 10px 14px; }
.tile b { display: block; font-size: 21px; font-weight: 650; white-space: nowrap; }
.tile span { color: var(--soft); font-size: 13px; }
section { padding: 16px 18px; margin: 0 0 16px; }
.note { color: var(--soft); font-size: 13px; margin: 8px 0 0; }
.good { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.text { white-space: normal; } th.text, td.text { text-align: left; }
@media print { body { background: #fff; } section, .tile { break-inside: avoid; } }
"""


def page(title: str, summary: str, sections: Sequence[Section], tiles: Sequence[Tile] = ()) -> str:
    """The whole page as HTML, about 5 MB: plotly.js is inside, once, so that it opens anywhere.

    Args:
        title: what was done, in a few words.
        summary: the outcome in one sentence.
        sections: in reading order.
        tiles: figures beside each other below the summary.
    """
    body = "".join(map(section_html, sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>'
        f"{tiles_html(list(tiles))}{body}</main></body></html>\n"
    )
