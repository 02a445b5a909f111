"""What measured TTFT and TPOT teach about step times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.observation.apply import predicted_by, scaled_replica
from plimsoll_recommender.observation.comparison import latency_at
from plimsoll_recommender.observation.observed import Evidence, Operation
from plimsoll_recommender.observation.quantities import PLAUSIBLE, PRIORS, Load, Quantity
from plimsoll_recommender.traffic import Workload

ROUNDS: Final = 3
"""Times the two factors are solved for in turn: prompts lengthen TPOT a little, decoding lengthens TTFT a little."""

HALVINGS: Final = 26
"""Halvings of a factor's plausible range: to 1e-7 of its logarithm."""

VARIATION: Final = {Quantity.DECODE: 0.3, Quantity.PREFILL: 1.0}
"""Coefficients of variation over requests of TPOT and TTFT, for the error of a mean of few (Azure-like traffic)."""

LEAST_ELASTICITY: Final = 0.1
"""A latency that a factor moves by less than this power of itself says nothing of the factor."""

UNSOLVED: Final = 0.02
"""Largest relative error of a latency at the factor that was solved for it."""

ASSUMED_REQUESTS: Final = 30.0
"""Requests assumed when an observation does not say how many it is of."""

QUEUE_SHARE: Final = 0.05
"""Waiting over running above which TTFT is mostly waiting for a slot."""

RISING: Final = 1.5
"""Requests started over finished beyond which the load was not steady: more prompts are computed than leave."""


@dataclass(frozen=True)
class _Trial:
    """A replica under its traffic with any two factors, against one observation."""

    replica: Replica
    workload: Workload
    seen: Operation

    def latency(self, quantity: Quantity, factors: dict[Quantity, float]) -> float:
        """The latency that a quantity is learned from, in seconds: TPOT for steps, TTFT for prompts."""
        scaled = scaled_replica(self.replica, factors[Quantity.DECODE], factors[Quantity.PREFILL])
        found = predicted_by(scaled, self.workload)
        return latency_at(found.tpot if quantity is Quantity.DECODE else found.ttft, self.seen.percentile)

    def elasticity(self, quantity: Quantity, factors: dict[Quantity, float]) -> float:
        """d ln(latency) / d ln(factor), by a difference of a tenth."""
        low, high = (self.latency(quantity, {**factors, quantity: factors[quantity] * step}) for step in (1 / 1.1, 1.1))
        return math.log(high / low) / (2 * math.log(1.1)) if 0 < low < high < math.inf else 0.0

    def solved(self, quantity: Quantity, factors: dict[Quantity, float], measured: float) -> float:
        """The factor at which the latency is what was measured; an end of its range when it is not reached."""
        high = math.log(PLAUSIBLE[quantity])
        low = -high
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            if self.latency(quantity, {**factors, quantity: math.exp(middle)}) < measured:
                low = middle
            else:
                high = middle
        return math.exp(0.5 * (low + high))


def step_evidence(replica: Replica, workload: Workload, seen: Operation) -> tuple[list[Evidence], list[str]]:
    """(evidence, what cannot be learned from and why) of the factors on steps and on prompts.

    Args:
        replica: the replica as predicted without corrections of its step times.
        workload: one replica's share of the traffic.
        seen: what was measured.
    """
    if seen.started is not None and seen.requests is not None and seen.started > RISING * seen.requests:
        return [], [f"the load was rising ({seen.started:g} requests started, {seen.requests:g} ended): not learned"]
    wanted: dict[Quantity, float] = {}
    said: list[str] = []
    if seen.tpot is not None:
        wanted[Quantity.DECODE] = seen.tpot
    if seen.ttft is not None:
        queued = (seen.waiting or 0.0) > QUEUE_SHARE * (seen.running or 0.0)
        if queued or predicted_by(replica, workload).saturated:
            said.append("TTFT includes waiting for a slot, which says nothing of prompts: not learned")
        else:
            wanted[Quantity.PREFILL] = seen.ttft
    trial = _Trial(replica, workload, seen)
    factors = {Quantity.DECODE: 1.0, Quantity.PREFILL: 1.0}
    for _ in range(ROUNDS if len(wanted) > 1 else 1):
        for quantity, measured in wanted.items():
            factors[quantity] = trial.solved(quantity, factors, measured)
    running = predicted_by(scaled_replica(replica, *factors.values()), workload).running
    load = Load.of(workload.concurrency or running, workload.input_tokens)
    found = []
    for quantity, measured in wanted.items():
        elasticity = trial.elasticity(quantity, factors)
        reached = trial.latency(quantity, factors)
        if elasticity < LEAST_ELASTICITY or not abs(reached / measured - 1) < UNSOLVED:
            name = "TPOT" if quantity is Quantity.DECODE else "TTFT"
            said.append(f"{name} of {measured:.4g} s is not explained by {quantity} times: not learned")
            continue
        of_mean = VARIATION[quantity] / math.sqrt(max(seen.requests or ASSUMED_REQUESTS, 1.0))
        noise = math.hypot(PRIORS[quantity].noise, of_mean) / min(1.0, elasticity)
        found.append(Evidence(quantity, math.log(factors[quantity]), noise, load))
    return found, said
