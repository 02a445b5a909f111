"""Ask an API server that engines on a small machine may starve for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from plimsoll_cli.errors import CommandError
from plimsoll_kube.errors import ApiUnavailable

UNANSWERED_SECONDS: Final = 60.0
"""After which an API server that does not answer is the demo's end, and not a busy machine."""
PAUSE_SECONDS: Final = 1.0
"""Between two tries: a refusal comes at once."""

Answer = TypeVar("Answer")


async def answered(
    ask: Callable[[], Awaitable[Answer]], *, within: float = UNANSWERED_SECONDS, pause: float = PAUSE_SECONDS
) -> Answer:
    """What a question to the API server is answered with, asked again while nobody answers.

    Args:
        ask: the question; it must do no harm twice.
        within: seconds without an answer after which to give up.
        pause: seconds between two tries.

    Raises:
        CommandError: no answer in time.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            return await ask()
        except ApiUnavailable as error:
            if time.monotonic() >= deadline:
                raise CommandError(f"no answer for {within:.0f} s: {error}") from None
            await asyncio.sleep(pause)
