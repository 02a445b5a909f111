"""What happened to each request, and the result of a whole test."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.plan import LoadPlan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Outcome(IntEnum):
    """How a request ended."""

    ABANDONED = 0
    """The test was stopped first: neither a hit nor a miss."""
    COMPLETED = 1
    FAILED = 2
    """No usable answer: refused, reset, an HTTP error, an error event before the first token."""
    TRUNCATED = 3
    """The stream began and ended before it was whole."""
    TIMED_OUT = 4


NOT_YET: Final = float("nan")
"""A moment that did not come."""


@dataclass(slots=True)
class Record:
    """One request. Moments are seconds since the test began; NaN is a moment that did not come."""

    scheduled: float
    input_tokens: int
    output_tokens: int
    """Asked for."""
    dispatched: float = NOT_YET
    """When the generator turned to it: `dispatched - scheduled` is the generator's own lag."""
    sent: float = NOT_YET
    """When the request was handed to its connection."""
    first_token: float = NOT_YET
    last_token: float = NOT_YET
    ended: float = NOT_YET
    tokens: int = 0
    """Received: the endpoint's usage where it gave one, else the events that carried a token."""
    prompt_tokens: int = 0
    """The endpoint's count of the prompt; 0 where it gave none."""
    status: int = 0
    """HTTP status; 0 when there was no response."""
    outcome: Outcome = Outcome.ABANDONED
    error: str = ""


@dataclass(frozen=True)
class Records:
    """All requests of a test as columns, in the order scheduled; moments as in `Record`."""

    scheduled: Floats
    dispatched: Floats
    sent: Floats
    first_token: Floats
    last_token: Floats
    ended: Floats
    input_tokens: Ints
    output_tokens: Ints
    tokens: Ints
    prompt_tokens: Ints
    status: Ints
    outcome: Ints
    error: tuple[str, ...]

    @classmethod
    def of(cls, records: list[Record]) -> Records:
        """The columns of a list of records."""

        def floats(name: str) -> Floats:
            return np.array([getattr(r, name) for r in records], dtype=np.float64)

        def ints(name: str) -> Ints:
            return np.array([getattr(r, name) for r in records], dtype=np.int64)

        return cls(
            scheduled=floats("scheduled"),
            dispatched=floats("dispatched"),
            sent=floats("sent"),
            first_token=floats("first_token"),
            last_token=floats("last_token"),
            ended=floats("ended"),
            input_tokens=ints("input_tokens"),
            output_tokens=ints("output_tokens"),
            tokens=ints("tokens"),
            prompt_tokens=ints("prompt_tokens"),
            status=ints("status"),
            outcome=ints("outcome"),
            error=tuple(r.error for r in records),
        )

    def __len__(self) -> int:
        """How many requests."""
        return len(self.scheduled)


@dataclass(frozen=True)
class LoadResult:
    """A test that ran, whole or interrupted.

    Args:
        plan: what was asked for.
        started_at: Unix time of the test's second 0.
        elapsed: seconds until the last answer, or until it was stopped.
        interrupted: it was stopped before its end.
        records: every planned request; those never sent have no `dispatched`.
        inter_token: gaps between the arrivals of a stream's tokens.
        loop_delay: how late the generator's own event loop ran, sampled throughout.
    """

    plan: LoadPlan
    started_at: float
    elapsed: float
    interrupted: bool
    records: Records
    inter_token: Histogram = field(repr=False)
    loop_delay: Histogram = field(repr=False)
