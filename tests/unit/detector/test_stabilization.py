"""How long a need or a surplus has lasted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plimsoll_detector.decision.stabilization import MOST_SLOTS, Trail


def trail(values: list[int], window: float, interval: float = 15.0) -> tuple[Trail, float]:
    """A trail of decisions at regular times, and the last time."""
    made, now = Trail(), 0.0
    for index, value in enumerate(values):
        now = index * interval
        made = made.add(now, value, max, interval, window)
    return made, now


def test_without_a_window_the_last_decision_counts() -> None:
    """Zero acts at once."""
    made, now = trail([5, 2], 0.0)
    assert made.lasting(now, 0.0, min) == 2


def test_a_window_that_is_not_full_says_nothing() -> None:
    """A process that has just started does not know what it has not seen."""
    made, now = trail([2] * 20, 300.0)
    assert made.lasting(now, 300.0, max) is None
    made, now = trail([2] * 21, 300.0)
    assert made.lasting(now, 300.0, max) == 2


def test_a_gap_says_nothing() -> None:
    """Decisions that could not be made for a while leave a hole, until the window has passed it."""
    made, now = trail([2] * 30, 300.0)
    later = now + 120.0
    made = made.add(later, 2, max, 15.0, 300.0)
    assert made.lasting(later, 300.0, max) is None


def test_one_slow_tick_is_no_gap() -> None:
    """Two intervals late still counts."""
    made, now = trail([2] * 30, 300.0)
    made = made.add(now + 45.0, 2, max, 15.0, 300.0)
    assert made.lasting(now + 45.0, 300.0, max) == 2


@given(st.lists(st.integers(1, 50), min_size=30, max_size=200))
def test_it_is_never_less_cautious_than_the_window(values: list[int]) -> None:
    """However the window is kept, its answer moves no further than any decision in it."""
    made, now = trail(values, 300.0)
    assert (made.lasting(now, 300.0, max) or 0) >= max(values[-21:])


@given(st.lists(st.integers(1, 50), min_size=400, max_size=500))
def test_a_long_window_stays_small(values: list[int]) -> None:
    """An hour at one decision a second is kept in about sixty entries, and is no less cautious."""
    made, now = trail(values, 360.0, interval=1.0)
    assert len(made.slots) <= MOST_SLOTS + 2
    assert (made.lasting(now, 360.0, max) or 0) >= max(values[-361:])
