"""The fit of the ledger's coefficients, from any part of the published start-ups."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from bench.memory_parts.start_ups import StartUp
from scipy.optimize import least_squares

from plimsoll_recommender.memory import budget

FITTED: Final = ("resident_gib", "forward_resident_gib", "vision_gib")
"""Coefficients of the activation peak that every release shares."""

COPIES_ELSEWHERE: Final = (1.40 - 0.072) / 0.145
"""Copies of the logits before the sampler changed, from a start outside the data set: Qwen3-235B-A22B-FP8 at TP 4 on
L40S with 0.10.2 logged 1.40 GiB at 256 x 151,936 logits (0.145 GiB in fp32, 0.072 in bf16). Only one model of the set
was started with such releases: without it, this is all that is known."""

FEW: Final = 10
"""Below this many rows residues cannot be told from copies: only copies are fitted."""


def fitted(rows: Sequence[StartUp]) -> budget.Coefficients:
    """Every coefficient that these start-ups determine; what they say nothing of starts from physics.

    The activation peak is fitted robustly over the larger of its two peaks. Copies of the logits are fitted apart for
    the releases before and since the sampler changed; memory outside torch is a median.
    """
    whole = [row for row in rows if row.config.pipeline_parallel_size == 1]
    parts = [row.parts for row in whole]
    measured = np.array([row.activation for row in whole])
    old = np.array([row.config.version < budget.SAMPLER_CHANGED for row in whole])

    def coefficients(found: np.ndarray) -> budget.Coefficients:
        return budget.Coefficients(
            sampler_copies=float(found[0]),
            sampler_copies_before=float(found[1]),
            **dict(zip(FITTED, (float(value) for value in found[2:]), strict=True)),
        )

    def residuals(found: np.ndarray) -> np.ndarray:
        given = coefficients(found)
        copies = np.where(old, found[1], found[0])
        predicted = [part.peak(float(count), given) for part, count in zip(parts, copies, strict=True)]
        difference: np.ndarray = np.array(predicted) - measured
        return difference

    # From one copy and no residue: nothing is taken from the calibrated values.
    start = np.array([1.0, COPIES_ELSEWHERE, 0.0, 0.0, 0.0])
    most = np.array([50.0, 50.0, *([50.0] * 3 if len(whole) >= FEW else [1e-9] * 3)])
    found = least_squares(residuals, start, bounds=(0.0, most), loss="soft_l1", f_scale=0.05).x
    if not old.any():
        found[1] = COPIES_ELSEWHERE
    return _outside(coefficients(found), whole)


def _outside(given: budget.Coefficients, rows: Sequence[StartUp]) -> budget.Coefficients:
    """With the medians of memory outside torch, by release and tensor parallelism."""

    def middle(*, since: bool, tensor: bool) -> float | None:
        values = [
            row.non_torch
            for row in rows
            if (row.config.version >= budget.NON_TORCH_GREW) is since
            and (row.config.tensor_parallel_size > 1) is tensor
        ]
        return statistics.median(values) if values else None

    alone, before, many = (
        middle(since=True, tensor=False),
        middle(since=False, tensor=False),
        middle(since=True, tensor=True),
    )
    # Nothing of the calibration is left where the rows say nothing: NCCL's buffers as 0.11 took them.
    given = replace(given, fused_all_reduce_gib=given.collective_gib)
    if before is not None:
        given = replace(given, non_torch_before_gib=before)
    if alone is not None:
        given = replace(given, non_torch_gib=alone)
        if many is not None:
            given = replace(given, fused_all_reduce_gib=many - alone)
    return given
