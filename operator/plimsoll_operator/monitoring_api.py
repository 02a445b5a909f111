"""Whether the cluster has prometheus-operator's PodMonitor, asked now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from plimsoll_kube.client import KubeApi
from plimsoll_kube.resources import POD_MONITOR

ABSENT_FRESH_S: Final = 60.0
"""An absent PodMonitor API is asked for again after this long: it may be installed at any time."""

PRESENT_FRESH_S: Final = 600.0


class MonitoringApi:
    """The answer, remembered for a while."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known = False
        self._asked_at: float | None = None

    async def served(self) -> bool:
        """Whether PodMonitors can be written.

        Raises:
            ApiError: the API server cannot be asked, and has not been before.
        """
        fresh = PRESENT_FRESH_S if self._known else ABSENT_FRESH_S
        if self._asked_at is None or self._clock() - self._asked_at > fresh:
            self._known = await self._api.served(POD_MONITOR)
            self._asked_at = self._clock()
        return self._known
