"""Models of traffic: when requests arrive and how long they are. Pure: seeded, no clock, no network.

A `TrafficModel` (a rate profile, a burstiness and two length distributions) or a trace becomes a stream of `Request`s,
sorted by time, that the load generator sends and the fleet simulator plays.
"""

from __future__ import annotations

from plimsoll_simulator.traffic.lengths import MAX_P95_OVER_MEAN, Fixed, LengthDistribution, Lognormal, Quantiles
from plimsoll_simulator.traffic.model import TrafficModel
from plimsoll_simulator.traffic.profiles import RateProfile, constant, daily, flash_crowd, steps
from plimsoll_simulator.traffic.published import SHAPES, shape
from plimsoll_simulator.traffic.requests import Request, clip, scale_lengths, scale_rate, scale_time
from plimsoll_simulator.traffic.traces import parse_trace

__all__ = [
    "MAX_P95_OVER_MEAN",
    "SHAPES",
    "Fixed",
    "LengthDistribution",
    "Lognormal",
    "Quantiles",
    "RateProfile",
    "Request",
    "TrafficModel",
    "clip",
    "constant",
    "daily",
    "flash_crowd",
    "parse_trace",
    "scale_lengths",
    "scale_rate",
    "scale_time",
    "shape",
    "steps",
]
