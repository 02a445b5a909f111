"""What a report consists of: figures that matter, and sections."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

Tone = Literal["plain", "good", "bad"]


@dataclass(frozen=True)
class Tile:
    """One figure that matters: its value as text, what it is, and whether it is good news."""

    value: str
    label: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Args:
        title: plain text.
        body: HTML, from `charts`, `svg`, `tables` or `paragraph`.
        note: plain text below the body: how to read it, what it leaves out.
        half: beside the next half section where the screen is wide enough.
    """

    title: str
    body: str
    note: str = ""
    half: bool = False


def paragraph(text: str) -> str:
    """Plain text as a section's body."""
    return f"<p>{escape(text)}</p>"


def tiles_html(tiles: tuple[Tile, ...] | list[Tile]) -> str:
    """Tiles beside each other."""
    shown = "".join(
        f'<div class="tile"><b class="{tile.tone}">{escape(tile.value)}</b><span>{escape(tile.label)}</span></div>'
        for tile in tiles
    )
    return f'<div class="tiles">{shown}</div>'


def section_html(section: Section) -> str:
    """One section."""
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    kind = ' class="half"' if section.half else ""
    return f"<section{kind}><h2>{escape(section.title)}</h2>{section.body}{note}</section>"
