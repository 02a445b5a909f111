"""How long a need or a surplus has lasted: what one direction asked for, over a sliding window. Pure.

Replicas are added when every decision of the scale-out window asked for more, and removed when every decision of the
scale-in window would have done with fewer; with a gap in the window the answer is no. (Kubernetes' HPA keeps its
stabilisation window the same way: the largest recommendation of the window counts for scaling in, the smallest for
scaling out.) Each direction has a trail of its own, so that a long window of one does not blur a short one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MOST_SLOTS: Final = 60
"""Entries a window is kept in, however long it is: a day's window is then right to 24 minutes, on the safe side."""

TOLERATED_GAP_INTERVALS: Final = 3.0
"""Ticks that may be missing in a row before the window has a gap: a slow tick is none, an outage is one."""

Cautious = Callable[[int, int], int]
"""Of two numbers asked for, the one that moves less: `min` for scaling out, `max` for scaling in."""


@dataclass(frozen=True)
class Slot:
    """What was asked for over a short span of time.

    Attributes:
        start: first decision in it, in seconds since the epoch.
        end: last decision in it.
        replicas: the most cautious number asked for.
        gap: whether decisions are missing before it.
    """

    start: float
    end: float
    replicas: int
    gap: bool = False


@dataclass(frozen=True)
class Trail:
    """What one direction asked for lately.

    Attributes:
        slots: oldest first.
    """

    slots: tuple[Slot, ...] = ()

    def add(self, now: float, replicas: int, cautious: Cautious, interval: float, window: float) -> Trail:
        """With one more decision, and without those the window no longer needs.

        Args:
            now: when, in seconds since the epoch.
            replicas: what is asked for.
            cautious: `min` or `max`.
            interval: seconds between two decisions.
            window: seconds that will be asked about.
        """
        slots = [slot for slot in self.slots if slot.end >= now - window - interval]
        last = slots[-1] if slots else None
        gap = last is not None and now - last.end > interval * TOLERATED_GAP_INTERVALS
        if last is not None and not gap and now - last.start < window / MOST_SLOTS:
            slots[-1] = Slot(last.start, now, cautious(last.replicas, replicas), last.gap)
        else:
            slots.append(Slot(now, now, replicas, gap))
        return Trail(tuple(slots))

    def lasting(self, now: float, window: float, cautious: Cautious) -> int | None:
        """The most cautious number asked for over a window; None when decisions are missing in it."""
        if not self.slots or self.slots[-1].end < now or self.slots[0].start > now - window:
            return None
        if any(slot.gap and slot.start > now - window for slot in self.slots):
            return None
        found = [slot.replicas for slot in self.slots if slot.end >= now - window]
        result = found[0]
        for replicas in found[1:]:
            result = cautious(result, replicas)
        return result


@dataclass(frozen=True)
class Recommendations:
    """What both directions asked for lately.

    Attributes:
        out: replicas that scaling out asks for.
        into: replicas that scaling in asks for.
    """

    out: Trail = field(default_factory=Trail)
    into: Trail = field(default_factory=Trail)
