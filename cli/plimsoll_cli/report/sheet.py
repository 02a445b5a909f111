"""One self-contained HTML page without a plotting library: some tens of kB, light and dark, fit to print."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources

from plimsoll_cli.report.parts import Section, Tile, section_html, tiles_html


def sheet(title: str, summary: str, sections: Sequence[Section], tiles: Sequence[Tile] = ()) -> str:
    """The whole page as HTML; it opens without a network.

    Args:
        title: what it is about, in a few words.
        summary: the outcome in one sentence, which people read first.
        sections: in reading order; half sections stand beside each other.
        tiles: figures beside each other below the summary.
    """
    body = "".join(map(section_html, sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_resource('sheet.css')}</style></head>"
        f'<body><main><h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>'
        f'{tiles_html(list(tiles))}<div class="sections">{body}</div></main><div id="tip" role="tooltip"></div>'
        f"<script>{_resource('sheet.js')}</script></body></html>\n"
    )


@cache
def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
