"""What one tick read from Prometheus: samples per signal, and what went wrong. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plimsoll_detector.queries import Signal


@dataclass(frozen=True)
class Sample:
    """One sample of an answer.

    Attributes:
        labels: what it is about.
        value: NaN and infinities are kept: they are faults to be seen, not numbers to be used.
        at: Prometheus' time of evaluation, in seconds since the epoch.
    """

    labels: Mapping[str, str]
    value: float
    at: float


@dataclass(frozen=True)
class Reading:
    """Everything one tick read.

    Attributes:
        at: Prometheus' time of evaluation, the same for every query of the tick; seconds since the epoch.
        skew: Prometheus' clock minus this machine's, in seconds.
        answers: samples per signal; a signal whose query failed is absent.
        failures: what a failed query said, per signal.
        warnings: what Prometheus warned of; an answer with a warning may be incomplete.
        unreachable: why nothing could be read; None when something was.
    """

    at: float
    skew: float = 0.0
    answers: Mapping[Signal, tuple[Sample, ...]] = field(default_factory=dict)
    failures: Mapping[Signal, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    unreachable: str | None = None
