"""A traffic model: a rate over time, its burstiness, and the lengths of requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plimsoll_simulator.traffic.arrivals import arrival_times
from plimsoll_simulator.traffic.lengths import LengthDistribution
from plimsoll_simulator.traffic.profiles import RateProfile
from plimsoll_simulator.traffic.requests import Request


@dataclass(frozen=True)
class TrafficModel:
    """Everything a stream is drawn from.

    Input and output lengths are drawn independently: in the Azure 2023 traces their correlation is 0.00 (code) and
    -0.11 (conversation), rank correlation -0.02 and 0.07. Drawing both from one uniform number, as some generators do,
    would make every long prompt answer at length and overstate the KV cache and the tail.

    Args:
        profile: requests per second over time.
        cv: coefficient of variation of the gaps at constant rate; 1 is Poisson.
        input_tokens: prompt lengths.
        output_tokens: answer lengths.
    """

    profile: RateProfile
    cv: float
    input_tokens: LengthDistribution
    output_tokens: LengthDistribution

    def requests(self, seed: int) -> tuple[Request, ...]:
        """The stream of one seed: the same seed gives the same stream.

        Arrivals, input and output lengths have a random stream each: changing one leaves the others as they are.

        Raises:
            ValueError: the burstiness is out of range.
        """
        of_arrivals, of_inputs, of_outputs = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
        times = arrival_times(self.profile, self.cv, of_arrivals)
        inputs = self.input_tokens.sample(len(times), of_inputs)
        outputs = self.output_tokens.sample(len(times), of_outputs)
        return tuple(map(Request, times.tolist(), inputs.tolist(), outputs.tolist()))
