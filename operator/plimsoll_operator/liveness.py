"""Whether this process still does its work: what `/healthz` and `/readyz` answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from plimsoll_kube.resources import Resource

OLDEST_KEY_S: Final = 180.0
"""A key that is due and waits longer means that the workers hang: a reconcile gives up on the API server after 30 s
per call."""

RESYNC_FACTOR: Final = 3.0
"""The resync happens every one to two intervals; after three it is overdue."""

RESYNC_GRACE_S: Final = 60.0
"""On top of them: a list that is given up after 30 s, and the pause before the next, are no reason for a restart."""

LOOP_LAG_S: Final = 20.0
"""Nothing in this process may hold the event loop that long."""

WATCHER_GRACE_S: Final = 60.0
"""kopf starts a watcher anew after an error; one that is missing longer is dead."""


@dataclass(frozen=True)
class Vitals:
    """What the process looks like now.

    Attributes:
        leading: whether it leads; a standby has nothing that could be overdue.
        watched: names of the watchers that run.
        oldest_key: seconds that the oldest due key has waited.
        resync_age: seconds since the last resync, or since it began to lead.
        loop_lag: seconds by which the event loop was late last.
    """

    leading: bool
    watched: frozenset[str]
    oldest_key: float
    resync_age: float
    loop_lag: float


class Liveness:
    """Judges the vitals of the process. A dead watcher in a live process is what it is for."""

    def __init__(
        self,
        expected: Iterable[Resource],
        watcher_name: Callable[[Resource], str],
        resync_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected = {watcher_name(resource) for resource in expected}
        self._resync_interval = resync_interval
        self._clock = clock
        self._missing_since: dict[str, float] = {}

    def problems(self, vitals: Vitals) -> list[str]:
        """What is wrong, each in one line with its numbers; empty when all is well."""
        found = []
        if vitals.loop_lag > LOOP_LAG_S:
            found.append(f"the event loop was {vitals.loop_lag:.1f} s late (limit {LOOP_LAG_S:g} s)")
        if not vitals.leading:
            self._missing_since.clear()
            return found
        now = self._clock()
        missing = self._expected - vitals.watched
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        for name, since in sorted(self._missing_since.items()):
            if now - since > WATCHER_GRACE_S:
                found.append(f"nothing has watched {name} for {now - since:.0f} s (limit {WATCHER_GRACE_S:g} s)")
        if vitals.oldest_key > OLDEST_KEY_S:
            found.append(f"a key has waited {vitals.oldest_key:.0f} s for a worker (limit {OLDEST_KEY_S:g} s)")
        limit = RESYNC_FACTOR * self._resync_interval + RESYNC_GRACE_S
        if vitals.resync_age > limit:
            found.append(f"the last resync was {vitals.resync_age:.0f} s ago (limit {limit:g} s)")
        return found
