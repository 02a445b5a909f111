"""A request trace through one modelled replica: what each request waits for and gets, without running anything."""

from __future__ import annotations

from plimsoll_simulator.replay.outcome import Outcome, ReplayResult, Sample
from plimsoll_simulator.replay.replay import StepTimes, TracedRequest, replay, traced
from plimsoll_simulator.replay.replica import ModelledReplica, modelled_replica

__all__ = [
    "ModelledReplica",
    "Outcome",
    "ReplayResult",
    "Sample",
    "StepTimes",
    "TracedRequest",
    "modelled_replica",
    "replay",
    "traced",
]
