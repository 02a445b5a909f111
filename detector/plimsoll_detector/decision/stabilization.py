"""How long a need or a surplus has lasted: what each direction asked for, over a sliding window. Pure.

Replicas are added when every decision of the scale-out window asked for more, and removed when every decision of the
scale-in window would have done with fewer; with a gap in the window the answer is no. (Kubernetes' HPA keeps its
stabilisation window the same way: the largest recommendation of the window counts for scaling in, the smallest for
scaling out.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_SLOTS: Final = 60
"""Entries a window is kept in, however long it is: a day's window is then right to 24 minutes, on the safe side."""

TOLERATED_GAP_INTERVALS: Final = 3.0
"""Ticks that may be missing in a row before the window has a gap: a slow tick is none, an outage is one."""


@dataclass(frozen=True)
class Slot:
    """What was asked for over a short span of time.

    Attributes:
        start: first decision in it, in seconds since the epoch.
        end: last decision in it.
        least_out: fewest replicas that scaling out asked for.
        most_in: most replicas that scaling in asked for.
        gap: whether decisions are missing before it.
    """

    start: float
    end: float
    least_out: int
    most_in: int
    gap: bool = False


@dataclass(frozen=True)
class Recommendations:
    """What was asked for lately, oldest first."""

    slots: tuple[Slot, ...] = ()

    def add(self, now: float, out: int, into: int, interval: float, longest: float) -> Recommendations:
        """With one more decision, and without those no window needs.

        Args:
            now: when, in seconds since the epoch.
            out: replicas that scaling out asks for.
            into: replicas that scaling in asks for.
            interval: seconds between two decisions.
            longest: seconds of the longest window that will be asked for.
        """
        slots = [slot for slot in self.slots if slot.end >= now - longest - interval]
        last = slots[-1] if slots else None
        gap = last is not None and now - last.end > interval * TOLERATED_GAP_INTERVALS
        if last is not None and not gap and now - last.start < longest / MOST_SLOTS:
            slots[-1] = Slot(last.start, now, min(last.least_out, out), max(last.most_in, into), last.gap)
        else:
            slots.append(Slot(now, now, out, into, gap))
        return Recommendations(tuple(slots))

    def out(self, now: float, window: float) -> int | None:
        """The fewest replicas asked for over a window; None when decisions are missing in it."""
        return min(slot.least_out for slot in self._within(now, window)) if self._covers(now, window) else None

    def into(self, now: float, window: float) -> int | None:
        """The most replicas asked for over a window; None when decisions are missing in it."""
        return max(slot.most_in for slot in self._within(now, window)) if self._covers(now, window) else None

    def _within(self, now: float, window: float) -> list[Slot]:
        return [slot for slot in self.slots if slot.end >= now - window]

    def _covers(self, now: float, window: float) -> bool:
        """Whether decisions were made throughout the window, up to now."""
        if not self.slots or self.slots[-1].end < now:
            return False
        if self.slots[0].start > now - window:
            return False
        return not any(slot.gap and slot.start > now - window for slot in self.slots)
