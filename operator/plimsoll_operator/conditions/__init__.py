"""Pure: what is true of a service becomes its conditions, by one chain of checks per condition."""

from __future__ import annotations

from plimsoll_operator.conditions.evaluate import evaluate, transitions
from plimsoll_operator.conditions.situation import Situation, Verdict

__all__ = ["Situation", "Verdict", "evaluate", "transitions"]
