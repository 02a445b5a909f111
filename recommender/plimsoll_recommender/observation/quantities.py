"""What is corrected, how wrong it is expected to be before anything is observed, and how far a correction carries.

A correction is the logarithm of measured over predicted. Before any observation it is normal around zero with the
spread of the predictions' held-out errors; `python -m bench observation` prints the spreads measured on the data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

from plimsoll_recommender.catalogue.accelerators import accelerator
from plimsoll_recommender.engine_config import version_of
from plimsoll_recommender.errors import UnknownAcceleratorError
from plimsoll_recommender.latency.efficiency import efficiency_of


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
        spread: standard deviation of ln(measured / predicted) over models, GPUs, releases and loads.
        noise: standard deviation of one observation around the correction of its engine at its load.
        across_parallelism: correlation of the corrections of two neighbouring powers of two of parallelism.
        across_release: correlation of the corrections of two neighbouring minor releases; older evidence is forgotten
            by its power.
        everywhere: share of the variance that is the same at every load.
        size_doublings, input_doublings: distances, in doublings of the load's size and of the prompt length, over which
            the rest of the correction carries (length scales of a Gaussian kernel).
        across_models: whether one model's evidence holds for all (a property of the GPU alone).
    """

    spread: float
    noise: float
    across_parallelism: float
    across_release: float
    everywhere: float = 1.0
    size_doublings: float = 1.0
    input_doublings: float = 1.0
    across_models: bool = False


PRIORS: Final[dict[Quantity, Prior]] = {
    # The driver's total is exact; products of one name differ by a few 10 MiB.
    Quantity.GPU_TOTAL: Prior(0.02, 0.0003, 1.0, 1.0, across_models=True),
    # Two digits in the log; a checkpoint that loads larger than it is stored is rare and large.
    Quantity.WEIGHTS: Prior(0.05, 0.002, 0.9, 0.98),
    # What is wrong with a small peak (buffers) is not what is wrong with a large one (logits, experts).
    Quantity.OVERHEAD: Prior(0.30, 0.02, 0.6, 0.6, 0.4, 1.0),
    Quantity.GRAPHS: Prior(0.35, 0.10, 0.8, 0.7),
    Quantity.DECODE: Prior(0.15, 0.05, 0.6, 0.8, 0.15, 1.5, 1.2),
    Quantity.PREFILL: Prior(0.40, 0.06, 0.6, 0.8, 0.10, 2.2, 1.2),
}
"""By quantity; where each figure is from is in `docs/flows/correction.md`."""

UNCALIBRATED: Final[dict[Quantity, Prior]] = {
    Quantity.DECODE: Prior(0.25, 0.05, 0.6, 0.8, 0.6, 1.5, 1.2),
    Quantity.PREFILL: Prior(0.60, 0.06, 0.6, 0.8, 0.5, 2.2, 1.2),
}
"""Step times of a GPU generation that the efficiencies were not fitted on: wrong by more, and mostly by one factor."""

PLAUSIBLE: Final[dict[Quantity, float]] = {
    Quantity.GPU_TOTAL: 1.10,
    Quantity.WEIGHTS: 3.0,
    Quantity.OVERHEAD: 6.0,
    Quantity.GRAPHS: 10.0,
    Quantity.DECODE: 5.0,
    Quantity.PREFILL: 8.0,
}
"""Largest factor either way that is learned from: beyond it another model, GPU or unit was observed."""

LOAD_STEP: Final = 0.25
"""Loads are told apart by quarters of a doubling."""


@dataclass(frozen=True, order=True)
class Key:
    """The engine that a correction holds for.

    Args:
        model: name of the model.
        accelerator: product of the GPU.
        engine_version: release of the engine, three numbers.
        tensor_parallel_size, pipeline_parallel_size, expert_parallel: how the model is divided.
    """

    model: str
    accelerator: str
    engine_version: str
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    expert_parallel: bool = False


@dataclass(frozen=True, order=True)
class Load:
    """What a correction was observed at, in doublings.

    Args:
        size: log2 of the requests running; of a start-up, of the MiB predicted for its overhead.
        input_tokens: log2 of the mean prompt length; 0 of a start-up.
    """

    size: float
    input_tokens: float = 0.0

    @classmethod
    def of(cls, running: float, input_tokens: float) -> Load:
        """The load of a replica; below one counts as one."""
        return cls(_rounded(running), _rounded(input_tokens))

    @classmethod
    def of_overhead(cls, gib: float) -> Load:
        """The load of a start-up whose activation peak and non-torch memory are predicted to be this, GiB per GPU."""
        return cls(_rounded(gib * 1024))


def _rounded(value: float) -> float:
    return round(math.log2(max(value, 1.0)) / LOAD_STEP) * LOAD_STEP


@dataclass(frozen=True)
class Site:
    """Where a correction holds: an engine, at a load (None for what does not depend on it)."""

    key: Key
    load: Load | None = None


@cache
def prior_of(quantity: Quantity, product: str) -> Prior:
    """What is known of a quantity's correction on a GPU before anything is observed."""
    try:
        calibrated = efficiency_of(accelerator(product).architecture).calibrated
    except UnknownAcceleratorError:
        calibrated = False
    return PRIORS[quantity] if calibrated else UNCALIBRATED.get(quantity, PRIORS[quantity])


def correlation(quantity: Quantity, one: Site, other: Site) -> float:
    """Correlation (0 to 1) of a quantity's corrections at two sites.

    Zero between GPUs, and between models unless the quantity is the GPU's own. A factor per doubling of the
    parallelism and per minor release, and a Gaussian of the distance between loads: each is a valid kernel, and so
    their product.
    """
    prior, first, second = prior_of(quantity, one.key.accelerator), one.key, other.key
    if first.accelerator != second.accelerator or (first.model != second.model and not prior.across_models):
        return 0.0
    doublings = abs(math.log2(first.tensor_parallel_size / second.tensor_parallel_size))
    doublings += abs(math.log2(first.pipeline_parallel_size / second.pipeline_parallel_size))
    doublings += first.expert_parallel != second.expert_parallel
    engines = prior.across_parallelism**doublings * prior.across_release ** releases_between(first, second)
    return float(engines * (prior.everywhere + (1 - prior.everywhere) * _loads(prior, one.load, other.load)))


def _loads(prior: Prior, one: Load | None, other: Load | None) -> float:
    """Correlation of what depends on the load."""
    if one is None or other is None:
        return float(one is other)
    size = (one.size - other.size) / prior.size_doublings
    prompt = (one.input_tokens - other.input_tokens) / prior.input_doublings
    return math.exp(-0.5 * (size**2 + prompt**2))


@cache
def _numbers(release: str) -> tuple[int, int, int]:
    """A release as numbers; kernels ask for the same few again and again."""
    return version_of(release)


def releases_between(one: Key, other: Key) -> float:
    """Minor releases between two keys; a major release counts as ten, patches not."""
    first, second = _numbers(one.engine_version), _numbers(other.engine_version)
    return abs((first[0] - second[0]) * 10 + first[1] - second[1])
