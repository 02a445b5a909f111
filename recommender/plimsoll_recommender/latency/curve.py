"""Latency of one replica over its request rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.efficiency import efficiency_of
from plimsoll_recommender.latency.predict import UNCALIBRATED, at_point
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.prediction import Latency
from plimsoll_recommender.traffic import Objectives, Workload

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections

POINTS: Final = 40
"""Points of a curve: smooth on a screen."""


@dataclass(frozen=True)
class Spread:
    """A latency at a percentile over requests, in seconds, with the 90 % interval of the model itself."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """What one replica does at a request rate.

    Args:
        rate: requests per second.
        output_tokens_per_second: generated tokens per second.
        running: mean sequences in the batch.
        ttft, tpot, e2e: latencies at the objectives' percentile.
    """

    rate: float
    output_tokens_per_second: float
    running: float
    ttft: Spread
    tpot: Spread
    e2e: Spread


def latency_curve(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    workload: Workload,
    objectives: Objectives,
    *,
    corrections: Corrections | None = None,
    points: int = POINTS,
) -> list[CurvePoint]:
    """Latencies in an open loop, from an idle replica to a saturated one, corrected by what was observed.

    Raises:
        InfeasibleError: when the engine would not start.
    """
    # The corrections are built on this package.
    from plimsoll_recommender.observation.apply import corrected_ledger, corrected_replica

    ledger = corrected_ledger(facts, gpu, config, corrections)
    replica = corrected_replica(Replica.of(facts, gpu, config, workload, ledger=ledger), facts, gpu, corrections)
    wide = 1.0 if efficiency_of(gpu.architecture).calibrated else UNCALIBRATED
    # A replica of several data-parallel ranks has the latencies of one and the rates of all.
    ranks = config.data_parallel_size
    found = []
    for index in range(1, points + 1):
        # Denser where the replica is idle: a curve over the rate is then evenly dense.
        point = replica.at(replica.most_decoding * (index / points) ** 2)
        predicted = at_point(replica, point, point.rate, wide)
        percentile = objectives.percentile
        found.append(
            CurvePoint(
                rate=point.rate * ranks,
                output_tokens_per_second=predicted.throughput.output_tokens_per_second * ranks,
                running=point.running * ranks,
                ttft=_spread(predicted.ttft, percentile),
                tpot=_spread(predicted.tpot, percentile),
                e2e=_spread(predicted.e2e, percentile),
            )
        )
    return found


def _spread(latency: Latency, percentile: float) -> Spread:
    """The percentile, and the interval of the mean carried over to it in proportion."""
    value = latency.at(percentile)
    return Spread(value, value * latency.low / latency.mean, value * latency.high / latency.mean)
