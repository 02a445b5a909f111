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


class _Lane(Generic[Key]):
    """Keys by when they are due. An entry of the heap counts only while it is the key's newest."""

    def __init__(self) -> None:
        self.due: dict[Key, float] = {}
        self._heap: list[_Waiting[Key]] = []
        self._order = itertools.count()

    def push(self, key: Key, due: float) -> None:
        """Have a key due at a time, or sooner when it already is."""
        if key not in self.due or due < self.due[key]:
            self.due[key] = due
            heapq.heappush(self._heap, _Waiting(due, next(self._order), key))

    def first(self) -> float | None:
        """When the first key is due; None when there is none."""
        while self._heap and self.due.get(self._heap[0].key) != self._heap[0].due:
            heapq.heappop(self._heap)
        return self._heap[0].due if self._heap else None

    def pop(self) -> Key:
        """Take the key that `first` spoke of."""
        key = heapq.heappop(self._heap).key
        del self.due[key]
        return key


class WorkQueue(Generic[Key]):
    """A de-duplicating, delaying queue of keys with per-key backoff and two lanes.

    What a person changed is urgent. The rest (echoes of our own writes, pods, resyncs) waits while anything urgent is
    due, and never takes more than `background_limit` workers, so that one is always there for the next change.

    Args:
        clock: monotonic seconds.
        background_limit: workers that the background may take at once.
        on_wait: told, for every key taken, how long it had been due.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        background_limit: int = 4,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._clock = clock
        self._on_wait = on_wait
        self._background_limit = background_limit
        self._urgent: _Lane[Key] = _Lane()
        self._background: _Lane[Key] = _Lane()
        self._working: dict[Key, bool] = {}
        self._again: dict[Key, tuple[float, bool]] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self.counts = QueueCounts()

    def __len__(self) -> int:
        """Keys that are due now and wait for a worker."""
        now = self._clock()
        return sum(due <= now for lane in (self._urgent, self._background) for due in lane.due.values())

    @property
    def working(self) -> int:
        """Keys being worked on."""
        return len(self._working)

    def oldest_age(self) -> float:
        """Seconds that the longest-waiting due key has been due; 0 when none is."""
        now = self._clock()
        ages = (now - due for lane in (self._urgent, self._background) for due in lane.due.values())
        return max(0.0, max(ages, default=0.0))

    def add(self, key: Key, delay: float = 0.0, *, urgent: bool = False) -> None:
        """Have a key worked on in `delay` seconds; sooner when it is already due sooner."""
        if self._closed:
            return
        self.counts.adds += 1
        due = self._clock() + delay
        if key in self._working:
            before_due, before_urgent = self._again.get(key, (due, False))
            self._again[key] = (min(due, before_due), urgent or before_urgent)
            return
        self._push(key, due, urgent)

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
            urgent, background = self._urgent.first(), self._background.first()
            if urgent is not None and urgent <= now:
                return self._take(self._urgent, background=False)
            free = sum(self._working.values()) < self._background_limit
            if background is not None and background <= now and free:
                return self._take(self._background, background=True)
            waits = [due - now for due in (urgent, background if free else None) if due is not None]
            await self._sleep(min(waits) if waits else None)
        return None

    def done(self, key: Key) -> None:
        """A worker has finished with a key."""
        self._working.pop(key, None)
        if key in self._again:
            due, urgent = self._again.pop(key)
            self._push(key, due, urgent)
        self._wake.set()

    def close(self) -> None:
        """Let every waiting worker go; what is queued is dropped."""
        self._closed = True
        self._wake.set()

    def _take(self, lane: _Lane[Key], *, background: bool) -> Key:
        self._on_wait(max(0.0, self._clock() - (lane.first() or 0.0)))
        key = lane.pop()
        self._working[key] = background
        return key

    def _push(self, key: Key, due: float, urgent: bool) -> None:
        if urgent:
            due = min(due, self._background.due.pop(key, due))
            self._urgent.push(key, due)
        elif key not in self._urgent.due:
            self._background.push(key, due)
        self._wake.set()

    async def _sleep(self, seconds: float | None) -> None:
        """Until something is added or finished, or `seconds` have passed."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
