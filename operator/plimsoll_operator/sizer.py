"""Runs the recommender beside the event loop, once for services that ask the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from plimsoll_api.v1alpha1 import RecommendationStatus
from plimsoll_operator.errors import InvalidSpecError
from plimsoll_operator.sizing import SizingInputs, compute

REMEMBERED: Final = 512
"""Answers kept: a fleet has far fewer distinct models and workloads than services."""


class Sizer:
    """Recommendations by what was asked, refusals included. One thread: the interpreter runs one at a time anyway."""

    def __init__(self, compute: Callable[[SizingInputs], RecommendationStatus] = compute) -> None:
        self._compute = compute
        self._answers: OrderedDict[str, asyncio.Future[RecommendationStatus]] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recommend")

    async def size(self, inputs: SizingInputs) -> RecommendationStatus:
        """The recommendation for some inputs.

        Raises:
            InvalidSpecError: there is none.
        """
        answer = self._answers.get(inputs.cache_key)
        if answer is None:
            loop = asyncio.get_running_loop()
            answer = loop.run_in_executor(self._thread, self._compute, inputs)
            self._answers[inputs.cache_key] = answer
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        self._answers.move_to_end(inputs.cache_key)
        try:
            return await asyncio.shield(answer)
        except InvalidSpecError:
            raise
        except BaseException:
            self._answers.pop(inputs.cache_key, None)  # a failure of ours may pass
            raise

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)
