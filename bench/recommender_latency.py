"""Predicted TPOT and TTFT against measured ones of vLLM, with models, GPUs and releases left out of the calibration.

The kernel laws are fitted on kernel tables alone (`bench.kernels`), never on a served model; what is fitted on runs are
the 13 figures of serving, one set for all GPUs. A model left out is left out on every GPU. A GPU left out is known by
its datasheet only: its runs are predicted with the other generation's kernel laws.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from bench.figures import Context, Figure
from bench.latency_parts.fit import (
    BELIEFS,
    HeldOut,
    all_residuals,
    fitted,
    leave_out,
    median_error,
    other_kernels,
    own_kernels,
    within,
)
from bench.latency_parts.runs import Run, measured_runs
from bench.latency_parts.transfers import argonne, by_machine, kaito, splitwise
from plimsoll_recommender.latency.efficiency import SERVING
from plimsoll_recommender.latency.predict import STEP_ERROR, TTFT_ERROR, UNCALIBRATED

__all__ = ["Run", "held_out", "measured_runs", "median_errors", "run"]

FIT_ROWS: Final = 110
"""Most rows of a held-out fit, taken evenly: more change no figure by as much as leaving out another model."""

ALL_ROWS: Final = 340
"""Most rows of the fit that is shipped."""


def median_errors(runs: Sequence[Run]) -> tuple[float, float]:
    """Median absolute error of TPOT and of TTFT as shipped, per cent."""
    found = all_residuals(runs, own_kernels, SERVING)
    return median_error([a for a, _ in found]), median_error([b for _, b in found if b is not None])


def held_out(
    runs: Sequence[Run], group: Callable[[Run], str], *, same_gpu: bool = False, thin: int = 1
) -> tuple[list[float], list[float], list[str]]:
    """Absolute errors (TPOT, TTFT, per cent) of every group predicted by a fit on the others, and a line per group.

    `same_gpu` is accepted and changes nothing: figures are shared by all GPUs. `thin` takes every so many rows.
    """
    (found,) = leave_out(runs[::thin], group, rows=FIT_ROWS)
    tpot, ttft = ([abs(math.expm1(value)) * 100 for value in values] for values in (found.tpot, found.ttft))
    return tpot, ttft, found.lines


def _pair(name: str, found: HeldOut, bars: tuple[float | None, float | None], *, detail: str = "") -> list[Figure]:
    groups = "TPOT/TTFT: " + ", ".join(found.lines)
    return [
        Figure(f"TPOT, {name}, median error", median_error(found.tpot), "%", bars[0], "<=", groups),
        Figure(
            f"TTFT, {name}, median error",
            median_error(found.ttft),
            "%",
            bars[1],
            "<=",
            f"{len(found.ttft)} runs{'; ' if detail else ''}{detail}",
        ),
    ]


def _intervals(found: HeldOut, name: str, wide: float) -> list[Figure]:
    """How many runs of what was left out lie in the intervals that predictions state, and what would hold 90 %.

    `wide` is the factor of intervals where nothing was measured.
    """
    return [
        Figure(
            f"{what} of {name} left out inside the stated interval",
            100 * statistics.fmean(abs(value) <= math.log1p(stated * wide) for value in values),
            "%",
            None,
            ">=",
            f"x or / {1 + stated * wide:g} stated; 90 % lie within x or / {1 + within(values, 0.9):.2f}",
        )
        for what, values, stated in (("TPOT", found.tpot, STEP_ERROR), ("TTFT", found.ttft, TTFT_ERROR))
    ]


def _transfers(data: Path) -> list[Figure]:
    """Errors on machines, and releases of 2023 and 2024, that nothing was fitted on: sanity, no bars."""
    checks = [check for source in (argonne, splitwise, kaito) for check in source(data)]
    return [
        Figure(
            f"{what} on {machine} ({source}), median error",
            median_error(values),
            "%",
            None,
            "<=",
            f"{len(values)} rows, median {100 * math.expm1(statistics.median(values)):+.0f} %",
        )
        for (source, machine, what), values in by_machine(checks).items()
    ]


def run(context: Context) -> list[Figure]:
    """In-sample errors, then errors with each model, GPU and release left out of the fit."""
    if context.data is None:
        context.skipped.append("latency against measured runs: give --data")
        return []
    runs = measured_runs(context.data, context.skipped, data_parallel=True)
    tpot, ttft = median_errors(runs)
    figures = [
        Figure("TPOT, calibration rows, median error", tpot, "%", None, "<=", f"{len(runs)} runs, as shipped"),
        Figure("TTFT, calibration rows, median error", ttft, "%", None, "<=", "closed loop"),
        *_transfers(context.data),
    ]
    if context.quick:
        context.skipped.append("held-out fits: left out of the quick version")
        return figures
    (models,) = leave_out(runs, lambda item: item.facts.architecture, rows=FIT_ROWS)
    figures += [*_pair("model left out", models, (8, 20)), *_intervals(models, "models", 1.0)]
    datasheet, tables = leave_out(runs, lambda item: item.system, rows=FIT_ROWS, kernels=(other_kernels, own_kernels))
    figures += _pair("GPU left out", datasheet, (12, 30), detail="known by its datasheet only")
    figures += _intervals(datasheet, "GPUs", UNCALIBRATED)
    figures += _pair("GPU left out, its kernels measured", tables, (None, None))
    (releases,) = leave_out(runs, lambda item: item.release, rows=FIT_ROWS)
    return [*figures, *_pair("release left out", releases, (None, None))]


def main(data: Path) -> None:
    """Print the serving figures fitted on all runs, as `latency/efficiency.py` states them."""
    runs = measured_runs(data, [], data_parallel=True)
    found = fitted(runs[:: max(1, len(runs) // ALL_ROWS)], own_kernels)
    for field in fields(found):
        sys.stdout.write(f"{field.name}: float = {getattr(found, field.name):.3g}  # believed {BELIEFS[field.name]}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
