"""Fits of the serving figures on measured runs, and predictions of runs that a fit has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from bench.latency_parts.runs import Run
from numpy.typing import NDArray

from plimsoll_recommender.latency.efficiency import BLACKWELL, HOPPER, Efficiency, Serving, efficiency_of


@dataclass(frozen=True)
class Belief:
    """What is believed of a figure before any run is seen: a log-normal centre and spread, and hard bounds."""

    centre: float
    low: float
    high: float
    spread: float


BELIEFS: Final = {
    "arithmetic": Belief(0.85, 0.5, 1.0, 0.3),
    "layer": Belief(15e-6, 1e-6, 50e-6, 0.5),
    "traffic": Belief(6.0, 0.5, 60.0, 0.5),
    "collective": Belief(1.0, 0.2, 3.0, 0.3),
    "fused": Belief(0.7, 0.2, 1.0, 0.3),
    "routing": Belief(0.95, 0.7, 1.0, 0.05),
    "imbalance": Belief(0.2, 0.02, 1.0, 0.5),
    "step": Belief(0.5e-3, 0.1e-3, 5e-3, 0.7),
    "sequence": Belief(30e-6, 1e-6, 100e-6, 0.7),
    "exposed": Belief(0.25, 0.02, 1.0, 0.5),
    "request": Belief(15e-3, 1e-3, 0.2, 0.7),
    "admission": Belief(1.5, 0.1, 6.0, 0.4),
    "burst": Belief(0.07, 0.001, 0.5, 1.0),
}
"""Orders of magnitude: small kernels take 2 to 4 microseconds and a layer has about five, a Python scheduler needs
fractions of a millisecond per step, GPUs under load keep most of their clock."""

BELIEF_ROWS: Final = 4500.0
"""Rows per unit of a belief's weight: with this many rows, beliefs and rows weigh alike."""

TTFT_WEIGHT: Final = 0.4
"""Weight of a TTFT residual against a TPOT residual: TTFT includes the client's way of starting requests."""

ROBUST: Final = 0.1
"""Residuals beyond this count with their absolute value, not their square."""

EVALUATIONS: Final = 7
"""Steps of the optimiser: the last changes figures by less than a hundredth."""


def fitted(runs: Sequence[Run], kernels_of: Callable[[Run], Efficiency]) -> Serving:
    """The serving figures that minimise the robust squared logarithms of predicted over measured TPOT and TTFT."""
    from scipy.optimize import least_squares

    centre, low, high = (np.log([getattr(b, side) for b in BELIEFS.values()]) for side in ("centre", "low", "high"))
    weight = np.sqrt(len(runs) / BELIEF_ROWS) / np.array([belief.spread for belief in BELIEFS.values()])

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        serving = _serving(logarithms)
        out = list(weight * (logarithms - centre))
        for tpot, ttft in all_residuals(runs, kernels_of, serving):
            out += [tpot, TTFT_WEIGHT * (ttft or 0.0)]
        return np.array(out)

    found = least_squares(
        residuals, centre, bounds=(low, high), loss="soft_l1", f_scale=ROBUST, max_nfev=EVALUATIONS, diff_step=1e-3
    )
    return _serving(found.x)


def _serving(logarithms: NDArray[np.float64]) -> Serving:
    return Serving(**{name: float(value) for name, value in zip(BELIEFS, np.exp(logarithms), strict=True)})


def all_residuals(
    runs: Sequence[Run], kernels_of: Callable[[Run], Efficiency], serving: Serving
) -> list[tuple[float, float | None]]:
    """ln(predicted / measured) of TPOT and TTFT of runs."""
    return [run.residuals(replace(kernels_of(run), serving=serving)) for run in runs]


def own_kernels(run: Run) -> Efficiency:
    """The laws of the run's own GPU generation."""
    return efficiency_of(run.gpu.architecture)


def other_kernels(run: Run) -> Efficiency:
    """The laws of the other generation: all that is then known of the run's GPU is its datasheet."""
    return BLACKWELL if run.gpu.architecture == "hopper" else HOPPER


@dataclass
class HeldOut:
    """Errors of predictions of runs that the fit had not seen: ln(predicted / measured).

    Args:
        tpot, ttft: residuals.
        lines: the median absolute errors of every group, per cent.
    """

    tpot: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def add(self, name: str, residuals: Sequence[tuple[float, float | None]]) -> None:
        """Take in the residuals of one group."""
        tpot, ttft = [a for a, _ in residuals], [b for _, b in residuals if b is not None]
        self.tpot += tpot
        self.ttft += ttft
        errors = f"{median_error(tpot):.1f}" + (f"/{median_error(ttft):.0f}" if ttft else "")
        self.lines.append(f"{name} {errors} % of {len(tpot)}")


def median_error(residuals: Sequence[float]) -> float:
    """Median absolute error of predictions from the logarithms of predicted over measured, per cent."""
    return statistics.median(abs(math.expm1(value)) * 100 for value in residuals)


def within(residuals: Sequence[float], share: float) -> float:
    """The relative error e for which a share of the measurements lie within predicted / (1 + e) and x (1 + e)."""
    return math.expm1(float(np.quantile(np.abs(residuals), share)))


def leave_out(
    runs: Sequence[Run],
    group: Callable[[Run], str],
    *,
    rows: int,
    kernels: Sequence[Callable[[Run], Efficiency]] = (own_kernels,),
) -> list[HeldOut]:
    """Every group of runs predicted by a fit on the others, once for each choice of kernel laws.

    Args:
        runs: measured runs.
        group: what is left out together.
        rows: most rows of a fit, taken evenly.
        kernels: the kernel laws that the runs left out are predicted with.
    """
    found = [HeldOut() for _ in kernels]
    for name in sorted({group(run) for run in runs}):
        tested = [run for run in runs if group(run) == name]
        known = [run for run in runs if group(run) != name]
        serving = fitted(known[:: max(1, math.ceil(len(known) / rows))], own_kernels)
        for held, kernels_of in zip(found, kernels, strict=True):
            held.add(name, all_residuals(tested, kernels_of, serving))
    return found
