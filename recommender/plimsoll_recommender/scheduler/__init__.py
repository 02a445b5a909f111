"""Continuous batching as vLLM V1 does it: which sequences compute how many tokens in each step.

Pure: no HTTP, no clock. The simulated engine drives it in real time, the fleet simulator in simulated time.
"""

from __future__ import annotations

from plimsoll_recommender.scheduler.batching import Scheduler, Step, StepResult
from plimsoll_recommender.scheduler.kv_blocks import BlockPool
from plimsoll_recommender.scheduler.request import Request, SchedulerConfig, Sequence

__all__ = ["BlockPool", "Request", "Scheduler", "SchedulerConfig", "Sequence", "Step", "StepResult"]
