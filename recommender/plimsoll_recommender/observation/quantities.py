"""What is corrected, how wrong it is expected to be before anything is observed, and how far a correction carries.

A correction is the logarithm of measured over predicted. Before any observation it is normal around zero with the
spread of the predictions' held-out errors; `python -m bench observation` prints the spreads measured on the data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from plimsoll_recommender.engine_config import version_of


class Quantity(StrEnum):
    """What is corrected."""

    GPU_TOTAL = "gpu_total"
    WEIGHTS = "weights"
    OVERHEAD = "overhead"
    GRAPHS = "graphs"
    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True)
class Prior:
    """What is known of a quantity's correction before it is observed, and of its observations.

    Args:
        spread: standard deviation of ln(measured / predicted) over models, GPUs and versions.
        noise: standard deviation of one observation around its own engine's mean correction: repeated starts differ,
            and the model is not wrong by the same factor at every operating point.
        across_parallelism: correlation of the corrections of two tensor-parallel sizes.
        across_release: correlation of the corrections of two neighbouring minor releases; older evidence is forgotten
            by its power.
        across_models: whether one model's evidence holds for all (a property of the GPU alone).
    """

    spread: float
    noise: float
    across_parallelism: float
    across_release: float
    across_models: bool = False


PRIORS: Final[dict[Quantity, Prior]] = {
    # The driver's total is exact; products of one name differ by a few 10 MiB.
    Quantity.GPU_TOTAL: Prior(0.02, 0.0003, 1.0, 1.0, across_models=True),
    # Two digits in the log; a checkpoint that loads larger than it is stored is rare and large.
    Quantity.WEIGHTS: Prior(0.05, 0.002, 0.9, 0.98),
    Quantity.OVERHEAD: Prior(0.30, 0.02, 0.6, 0.6),
    Quantity.GRAPHS: Prior(0.35, 0.10, 0.8, 0.7),
    Quantity.DECODE: Prior(0.15, 0.06, 0.6, 0.8),
    Quantity.PREFILL: Prior(0.35, 0.20, 0.6, 0.8),
}
"""By quantity; sources in `docs/flows/correction.md`."""

PLAUSIBLE: Final[dict[Quantity, float]] = {
    Quantity.GPU_TOTAL: 1.10,
    Quantity.WEIGHTS: 3.0,
    Quantity.OVERHEAD: 6.0,
    Quantity.GRAPHS: 10.0,
    Quantity.DECODE: 5.0,
    Quantity.PREFILL: 8.0,
}
"""Largest factor either way that is learned from: beyond it another model, GPU or unit was observed."""


@dataclass(frozen=True, order=True)
class Key:
    """What a correction holds for.

    Args:
        model: name of the model.
        accelerator: product of the GPU.
        engine_version: release of the engine, three numbers.
        tensor_parallel_size, pipeline_parallel_size: how the model is divided.
    """

    model: str
    accelerator: str
    engine_version: str
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1

    @property
    def version(self) -> tuple[int, int, int]:
        """The release as numbers."""
        return version_of(self.engine_version)


def correlation(quantity: Quantity, one: Key, other: Key) -> float:
    """Correlation (0 to 1) of a quantity's corrections for two keys.

    Zero between GPUs, and between models unless the quantity is the GPU's own. A factor per doubling of the
    parallelism and per minor release: each factor is a valid kernel (exponential in a distance), and so their product.
    """
    prior = PRIORS[quantity]
    if one.accelerator != other.accelerator or (one.model != other.model and not prior.across_models):
        return 0.0
    doublings = abs(math.log2(one.tensor_parallel_size) - math.log2(other.tensor_parallel_size))
    doublings += abs(math.log2(one.pipeline_parallel_size) - math.log2(other.pipeline_parallel_size))
    return float(prior.across_parallelism**doublings * prior.across_release ** releases_between(one, other))


def releases_between(one: Key, other: Key) -> float:
    """Minor releases between two keys; a major release counts as ten, patches not."""
    first, second = one.version, other.version
    return abs((first[0] - second[0]) * 10 + first[1] - second[1])
