"""Step times with factors that depend on how many sequences decode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from plimsoll_recommender.latency.step_time import StepTimeModel

LOADS: Final = tuple(float(2**power) for power in range(11))
"""Sequences decoding (1 to 1024) at which factors are tabulated; between them their logarithm is linear in log2."""


@dataclass(frozen=True)
class CorrectedStepTime(StepTimeModel):
    """Step times with factors on steps without prompts and on what prompt tokens add, by sequences decoding.

    Args:
        decode_factors, prefill_factors: logarithms of the factors at `LOADS`.
    """

    decode_factors: tuple[float, ...] = (0.0,) * len(LOADS)
    prefill_factors: tuple[float, ...] = (0.0,) * len(LOADS)

    @classmethod
    def of(
        cls, model: StepTimeModel, decode_factors: Sequence[float], prefill_factors: Sequence[float]
    ) -> CorrectedStepTime:
        """A model's step times, scaled by factors at `LOADS`."""
        values = {field.name: getattr(model, field.name) for field in fields(StepTimeModel)}
        decode, prefill = (tuple(map(math.log, factors)) for factors in (decode_factors, prefill_factors))
        return cls(**values, decode_factors=decode, prefill_factors=prefill)

    def mixed_seconds(
        self, prefill: float, reach: float, decode: float, context: float, sampled: float | None = None
    ) -> float:
        """Seconds of a step, as `StepTimeModel.mixed_seconds`."""
        place = math.log2(decode) if decode > 1.0 else 0.0
        whole = super().mixed_seconds(prefill, reach, decode, context, sampled)
        if prefill <= 0:
            return whole * _interpolated(self.decode_factors, place)
        plain = super().mixed_seconds(0.0, 0.0, decode, context, sampled if decode > 0 else None)
        scaled = plain * _interpolated(self.decode_factors, place)
        return scaled + (whole - plain) * _interpolated(self.prefill_factors, place)


def _interpolated(logarithms: tuple[float, ...], place: float) -> float:
    """A factor between tabulated ones; the last beyond them."""
    index = int(place)
    if index >= len(logarithms) - 1:
        return math.exp(logarithms[-1])
    share = place - index
    return math.exp(logarithms[index] * (1 - share) + logarithms[index + 1] * share)
