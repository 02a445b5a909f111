"""How an engine words a start that ran out of GPU memory, and which way its settings must go."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Shortage(StrEnum):
    """What would mend a start that ran out of GPU memory."""

    LOWER = "Lower"
    """The engine asked for more of the GPU than was free."""
    RAISE = "Raise"
    """What it was allowed to take is too little for what it must hold."""


_ASKED_TOO_MUCH: Final = re.compile(
    r"(?:torch\.)?(?:cuda\.)?OutOfMemoryError|CUDA (?:error: )?out of memory"
    r"|(?:Free memory on device [^\n]{0,120})?less than desired GPU memory utilization"
)
"""PyTorch while loading, profiling, capturing or warming up the sampler; vLLM before it loads (vLLM 0.32)."""

_MAY_TAKE_TOO_LITTLE: Final = re.compile(
    r"No available memory for the cache blocks|To serve at least one request with the model's max seq len"
)
"""vLLM after profiling: nothing, or less than one request needs, is left for the KV cache (vLLM 0.32)."""


def shortage(text: str) -> Shortage | None:
    """What an engine's last words ask for; None when they are not about GPU memory."""
    if _MAY_TAKE_TOO_LITTLE.search(text):
        return Shortage.RAISE
    return Shortage.LOWER if _ASKED_TOO_MUCH.search(text) else None


def excerpt(text: str, length: int) -> str:
    """The part of an engine's last words that says so, on one line; their end when nothing does."""
    found = _MAY_TAKE_TOO_LITTLE.search(text) or _ASKED_TOO_MUCH.search(text)
    part = text[found.start() :][:length] if found else text[-length:]
    return " ".join(part.split())
