"""Keys that need work: each once, each by one worker at a time, failed ones later and later.

A key added while it waits is already there; a key added while it is worked on is worked on once more afterwards, so
that a burst of changes costs one reconcile and none is lost. No thread may touch it: asyncio only.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 300.0
"""After a failure: doubled each time, then scaled by a random half to whole so that failures do not come in step."""

Key = TypeVar("Key", bound=Hashable)


@dataclass
class QueueCounts:
    """What went through a queue since it was made."""

    adds: int = 0
    retries: int = 0


@dataclass(order=True)
class _Waiting(Generic[Key]):
    due: float
    order: int
    key: Key = field(compare=False)


class WorkQueue(Generic[Key]):
    """A de-duplicating, delaying queue of keys with per-key backoff."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[_Waiting[Key]] = []
        self._due: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._closed = False
        self.counts = QueueCounts()

    def __len__(self) -> int:
        """Keys that are due now and wait for a worker."""
        now = self._clock()
        return sum(due <= now for due in self._due.values())

    @property
    def working(self) -> int:
        """Keys being worked on."""
        return len(self._working)

    def oldest_age(self) -> float:
        """Seconds that the longest-waiting due key has been due; 0 when none is."""
        now = self._clock()
        return max((now - due for due in self._due.values() if due <= now), default=0.0)

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Have a key worked on in `delay` seconds; sooner when it is already due sooner."""
        if self._closed:
            return
        self.counts.adds += 1
        due = self._clock() + delay
        if key in self._working:
            self._again[key] = min(due, self._again.get(key, due))
            return
        self._push(key, due)

    def retry(self, key: Key) -> float:
        """Have a key that failed worked on after its backoff; returns the seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.counts.retries += 1
        delay = min(FIRST_BACKOFF_S * 2.0 ** min(failures, 32), LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)
        self.add(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """A key succeeded: its next failure is a first one."""
        self._failures.pop(key, None)

    async def get(self) -> Key | None:
        """Wait for a key that is due; None once the queue is closed. Call `done` with it afterwards."""
        while not self._closed:
            now = self._clock()
            while self._heap and self._due.get(self._heap[0].key) != self._heap[0].due:
                heapq.heappop(self._heap)  # became due sooner by another entry
            if self._heap and self._heap[0].due <= now:
                key = heapq.heappop(self._heap).key
                del self._due[key]
                self._working.add(key)
                return key
            await self._sleep(self._heap[0].due - now if self._heap else None)
        return None

    def done(self, key: Key) -> None:
        """A worker has finished with a key."""
        self._working.discard(key)
        if key in self._again:
            self._push(key, self._again.pop(key))

    def close(self) -> None:
        """Let every waiting worker go; what is queued is dropped."""
        self._closed = True
        self._wake.set()

    def _push(self, key: Key, due: float) -> None:
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, _Waiting(due, next(self._order), key))
        self._wake.set()

    async def _sleep(self, seconds: float | None) -> None:
        """Until something is added or `seconds` have passed."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        if self._closed:
            self._wake.set()
