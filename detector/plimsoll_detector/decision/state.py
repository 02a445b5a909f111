"""What one service's decisions carry from tick to tick. Plain data; what must survive a restart is in the status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from plimsoll_detector.decision.ownership import Acted, OwnershipState
from plimsoll_detector.decision.policy import LoadLine
from plimsoll_detector.decision.stabilization import Recommendations

STARTUP_SECONDS: Final = 120.0
"""Start-up time assumed until one is seen: between the 60 s of an 8B model from a warm cache and the 190 s of a 72B
model (measured on H100 with vLLM 0.19, llm-d-planner's start-up logs)."""


@dataclass(frozen=True)
class FormerLine:
    """The load line of replicas that are being replaced, and its correction."""

    line: LoadLine
    ratio: float


@dataclass(frozen=True)
class DecisionState:
    """Memory of one service's decisions; times in seconds since the epoch.

    Attributes:
        first_seen: first usable observation of this process. A new process acts after one window of its own.
        last_tick: last usable observation.
        recommendations: what was asked for lately.
        line: the predicted load line; None before the first.
        line_ratio: measured over predicted load line.
        former: what the oldest replicas that still serve were predicted to carry; None when all are of the line.
        serving: replicas that served at the last tick.
        changed_at: when that number last changed.
        pending_since: since when fewer serve than are asked for; None while all do.
        asked: replicas asked for at the last tick.
        asked_more_at: when more were asked for than before, until all serve; None for replicas that were lost.
        startup: seconds from asking for more replicas until all served, as last seen.
        idle_since: since when there is no request; None while there are.
        acted: this detector's last write of `/scale`.
        ownership: foreign writes.
    """

    first_seen: float | None = None
    last_tick: float | None = None
    recommendations: Recommendations = field(default_factory=Recommendations)
    line: LoadLine | None = None
    line_ratio: float = 1.0
    former: FormerLine | None = None
    serving: int | None = None
    changed_at: float | None = None
    pending_since: float | None = None
    asked: int | None = None
    asked_more_at: float | None = None
    startup: float = STARTUP_SECONDS
    idle_since: float | None = None
    acted: Acted | None = None
    ownership: OwnershipState = field(default_factory=OwnershipState)
