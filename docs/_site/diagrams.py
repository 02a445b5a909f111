"""Mermaid's own parser, without a browser: a diagram that it refuses would be an error message on the page."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Final

import quickjs

ASSETS: Final = files("mermaidx").joinpath("assets")
"""Where a package of the lock carries the released `mermaid.min.js`, unchanged, and the document that it expects."""
STACK_BYTES: Final = 1 << 20
"""Of the engine that runs it: four times its own default, below the 8 MiB of a thread of ours."""


def script() -> str:
    """Mermaid, as pages load it."""
    return ASSETS.joinpath("mermaid.js").read_text(encoding="utf-8")


@cache
def _context() -> quickjs.Context:
    """An engine with Mermaid in it; half a second, once."""
    context = quickjs.Context()
    context.set_max_stack_size(STACK_BYTES)
    context.eval("globalThis.__log = () => {}")
    context.eval(ASSETS.joinpath("dom_shim.js").read_text(encoding="utf-8"))
    context.eval(script())
    return context


def complaint(diagram: str) -> str:
    """What Mermaid says against a diagram; empty when it draws it.

    >>> complaint("flowchart LR\\n  a --> b")
    ''
    >>> complaint("flowchart LR\\n  a -->").splitlines()[0]
    'Parse error on line 3:'
    """
    context = _context()
    context.eval(
        "globalThis.answer = 'Mermaid gave no answer';"
        f"mermaid.parse({json.dumps(diagram)}).then(() => {{ answer = '' }}, (error) => {{ answer = error.message }})"
    )
    try:
        while context.execute_pending_job():
            pass
    except StopIteration:  # nothing is left to do
        pass
    # A copy: what the engine still holds in pieces cannot be handed over.
    return str(context.eval("answer.slice(0)"))
