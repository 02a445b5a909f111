"""How many replicas the traffic needs, held against the load line. Pure.

Demand is counted in replicas at their load line, as a real number, from four views; the largest counts:

- requests: arrivals per second, each weighed by its length, over the load line's requests per second;
- tokens: tokens generated per second over the load line's;
- queue: arrivals, and the waiting requests that would still be there after the time a new replica takes to start;
- concurrency: requests in flight over the load line's (Little's law: it sees a service that became slower).

The first two are *flow*: what arrives, whether or not it is served. The last two also hold the *backlog*, which grows
for as long as new replicas start; see `decide` for why that difference matters.

A service that works off a queue generates more tokens and holds more requests than arrive. That part ends with the
queue, so tokens and concurrency are scaled down to the arrivals; otherwise the replicas that drain a queue would ask
for yet more replicas. For the same reason only the part of the queue that would be left counts. But the replicas that
drain it are needed until it is gone: the whole backlog keeps what serves, and asks for nothing beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

from plimsoll_detector.decision.policy import (
    QUEUE_DRAIN_SECONDS,
    SCALE_OUT_UTILIZATION,
    WORK_RATIO_BOUNDS,
    LoadLine,
)
from plimsoll_detector.observation import Observation


@dataclass(frozen=True)
class Demand:
    """Replicas needed at their load line.

    Attributes:
        requests: by arrivals.
        tokens: by generated tokens.
        queue: by arrivals plus the queue's drain.
        concurrency: by requests in flight.
        backlog: by all that waits, as if nothing of it were being worked off.
        kept: by the same, but no more than keeps what serves.
        work_ratio: work of an observed request over that of an assumed one.
        line: requests per second, of the observed lengths, that one replica carries at its load line.
    """

    requests: float
    tokens: float
    queue: float
    concurrency: float
    backlog: float
    kept: float
    work_ratio: float
    line: float

    @property
    def flow(self) -> float:
        """Replicas that what arrives needs."""
        return max(self.requests, self.tokens)

    @property
    def total(self) -> float:
        """Replicas that what arrives and what has piled up need."""
        return max(self.flow, self.queue, self.concurrency, self.kept)

    @property
    def leading(self) -> str:
        """Which view asks for most, in words."""
        views = {
            "arrivals": self.requests,
            "generated tokens": self.tokens,
            "the queue": self.queue,
            "requests in flight": self.concurrency,
            "the queue being worked off": self.kept,
        }
        return max(views, key=lambda name: views[name])


def work_ratio(observation: Observation, line: LoadLine) -> float:
    """Work of an observed request relative to the one the load line assumes.

    A request costs a x prompt tokens + b x output tokens, with a and b unknown here. Whatever they are, the ratio of
    two requests' costs lies between the ratio of their prompts and that of their outputs, so the larger of the two
    never underestimates, and it is exact when both lengths change alike.
    """
    ratios = [
        observed / assumed
        for observed, assumed in (
            (observation.input_tokens_mean, line.input_tokens_mean),
            (observation.output_tokens_mean, line.output_tokens_mean),
        )
        if observed is not None and assumed > 0
    ]
    low, high = WORK_RATIO_BOUNDS
    return min(max(max(ratios), low), high) if ratios else 1.0


def assess(observation: Observation, line: LoadLine, line_ratio: float, startup: float) -> Demand:
    """The replicas that an observation asks for.

    Args:
        observation: a usable one.
        line: the predicted load line.
        line_ratio: measured over predicted load line (see `load_line`).
        startup: seconds that a new replica takes to serve: a queue that is gone by then needs none.
    """
    ratio = work_ratio(observation, line)
    carried = line.requests_per_second * line_ratio / ratio
    excess = max(observation.started - observation.arrivals, 0.0)
    of_arrivals = observation.arrivals / observation.started if excess else 1.0
    left = max(observation.waiting - excess * max(startup, QUEUE_DRAIN_SECONDS), 0.0)

    def queue(waiting: float) -> float:
        return (observation.arrivals + waiting / QUEUE_DRAIN_SECONDS) / carried

    def concurrency(waiting: float) -> float:
        return (observation.running_mean * of_arrivals + waiting) / (line.concurrency * line_ratio)

    backlog = max(queue(observation.waiting), concurrency(observation.waiting))
    return Demand(
        requests=observation.arrivals / carried,
        tokens=observation.generation_tokens * of_arrivals / (line.output_tokens_per_second * line_ratio),
        queue=queue(left),
        concurrency=concurrency(left),
        backlog=backlog,
        kept=min(backlog, SCALE_OUT_UTILIZATION * observation.serving),
        work_ratio=ratio,
        line=carried,
    )
