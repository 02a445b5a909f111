"""KV layouts against the engine's own code."""

from __future__ import annotations

from bench.figures import Context, Figure


def layout_figures(context: Context) -> list[Figure]:
    """Nothing yet."""
    return []
