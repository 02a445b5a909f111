"""The memory of one GPU as a bar: colours on a terminal, letters where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from plimsoll_recommender import MemoryLedger


@dataclass(frozen=True)
class Part:
    """A part of the memory.

    Args:
        label: for the legend.
        field: of the ledger.
        colour: on a terminal.
        letter: without colours.
    """

    label: str
    field: str
    colour: str
    letter: str


PARTS: Final = (
    Part("weights", "weights_gib", "blue", "W"),
    Part("KV cache", "kv_cache_gib", "green", "K"),
    Part("activations", "activation_peak_gib", "yellow", "A"),
    Part("CUDA graphs", "cuda_graphs_gib", "magenta", "G"),
    Part("non-torch", "non_torch_gib", "red", "N"),
    Part("CUDA context", "context_gib", "cyan", "C"),
)
"""Everything that a GPU holds, in the bar's order."""

FREE: Final = Part("free", "", "bright_black", ".")


def sizes_of(ledger: MemoryLedger) -> list[tuple[Part, float]]:
    """(part, GiB) of everything on the GPU; what is free last."""
    sizes = [(part, float(getattr(ledger, part.field))) for part in PARTS]
    free = ledger.gpu_total_gib - sum(size for _, size in sizes)
    return [*sizes, (FREE, max(0.0, free))]


def cells_of(sizes: list[tuple[Part, float]], width: int) -> list[tuple[Part, int]]:
    """Characters of each part: together exactly `width`, at least one for every part that is not empty."""
    total = sum(size for _, size in sizes)
    shares = [size / total * width for _, size in sizes]
    cells = [max(int(share), 1 if share > 0 else 0) for share in shares]
    order = sorted(range(len(cells)), key=lambda index: cells[index] - shares[index])
    for index in order:
        if sum(cells) >= width:
            break
        cells[index] += 1
    while sum(cells) > width:
        cells[max(range(len(cells)), key=lambda index: cells[index])] -= 1
    return [(part, count) for (part, _), count in zip(sizes, cells, strict=True)]


@dataclass(frozen=True)
class MemoryBar:
    """A ledger as a bar with a legend, as wide as the terminal."""

    ledger: MemoryLedger

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        coloured = console.color_system is not None and not console.no_color
        sizes, width = sizes_of(self.ledger), max(20, options.max_width - 2)
        bar = Text(no_wrap=True, overflow="crop")
        for part, count in cells_of(sizes, width):
            block = "░" if part is FREE else "█"
            bar.append((block if coloured else part.letter) * count, style=part.colour if coloured else "")
        yield bar
        yield from _legend(sizes, width, coloured=coloured)


def _legend(sizes: list[tuple[Part, float]], width: int, *, coloured: bool) -> list[Text]:
    """Labels with their GiB, in as many lines as they need; a label is never broken."""
    lines = [Text()]
    for part, size in sizes:
        label = f"{part.label} {size:.2f}"
        if lines[-1] and len(lines[-1]) + len(label) + 2 > width:
            lines.append(Text())
        lines[-1].append("■ " if coloured else f"{part.letter} ", style=part.colour if coloured else "")
        lines[-1].append(f"{label}   ")
    return lines
