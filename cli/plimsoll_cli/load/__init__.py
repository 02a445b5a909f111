"""`plimsoll load`: open-loop traffic against an OpenAI-compatible endpoint, and what its users would have seen."""

from __future__ import annotations

from plimsoll_cli.load.plan import LoadPlan, Objectives, Progress
from plimsoll_cli.load.records import LoadResult, Outcome
from plimsoll_cli.load.run import run_load
from plimsoll_cli.load.statistics import Summary, summarise

__all__ = ["LoadPlan", "LoadResult", "Objectives", "Outcome", "Progress", "Summary", "run_load", "summarise"]
