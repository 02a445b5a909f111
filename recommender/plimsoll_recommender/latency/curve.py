"""Latency of one replica over its request rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.distributions import quantile
from plimsoll_recommender.latency.predict import open_times
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.traffic import Objectives, Workload

POINTS: Final = 40
"""Points of a curve: smooth on a screen."""


@dataclass(frozen=True)
class CurvePoint:
    """Latencies at the objectives' percentile, in seconds, at a request rate."""

    rate: float
    ttft: float
    tpot: float
    e2e: float


def latency_curve(
    facts: ModelFacts, gpu: Accelerator, config: EngineConfig, workload: Workload, objectives: Objectives
) -> list[CurvePoint]:
    """Latencies from an idle replica to a saturated one.

    Raises:
        InfeasibleError: when the engine would not start.
    """
    replica = Replica.of(facts, gpu, config, workload)
    points = []
    for index in range(1, POINTS + 1):
        point = replica.at(replica.most_decoding * (index / POINTS) ** 2)
        times = open_times(replica, point)
        percentile = objectives.percentile
        points.append(
            CurvePoint(
                point.rate,
                quantile(times.ttft, times.ttft_variation, percentile),
                quantile(times.tpot, times.tpot_variation, percentile),
                quantile(times.e2e, times.e2e_variation, percentile),
            )
        )
    return points
