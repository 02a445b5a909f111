"""The demo's traffic: a real service's minutes, played fast, with a burst in the middle (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from plimsoll_simulator.traffic import RateProfile, Request, TrafficModel, clip, scale_rate, shape, steps
from plimsoll_simulator.traffic.requests import scale_lengths


@dataclass(frozen=True)
class Phase:
    """A part of the demo.

    Args:
        name: as the view shows it.
        seconds: how long it lasts.
        load: mean rate as a multiple of one replica's load line.
    """

    name: str
    seconds: float
    load: float


PHASES: Final = (Phase("calm", 40.0, 0.45), Phase("burst", 80.0, 2.2), Phase("calm again", 90.0, 0.35))
"""Loads relative to the load line, so that the demo asks for the same number of replicas whatever model, GPU or machine
serves it: within one replica, then about three (2.2 / 0.85 target utilisation), then one again."""

REAL_ENGINE_PHASES: Final = (Phase("calm", 20.0, 0.3), Phase("burst", 170.0, 0.8), Phase("calm again", 70.0, 0.15))
"""For the real engine on two cores: a second replica takes one to two minutes to start and takes half of the machine
meanwhile, so that a load that one replica carries alone asks for the second and keeps it. What queues up is worked off
in the last phase."""

_WOBBLE_STEP_SECONDS: Final = 4.0
"""One published minute lasts this long in the demo: its 58 minutes pass in just under four."""


def duration(phases: Sequence[Phase] = PHASES) -> float:
    """Seconds of traffic in all."""
    return sum(phase.seconds for phase in phases)


def phase_at(seconds: float, phases: Sequence[Phase] = PHASES) -> str:
    """Name of the phase at a time after the traffic began."""
    if seconds < 0:
        return "starting"
    for phase in phases:
        if seconds < phase.seconds:
            return phase.name
        seconds -= phase.seconds
    return "after"


def rate_profile(load_line: float, phases: Sequence[Phase] = PHASES) -> RateProfile:
    """The phases' rates, each second modulated by the minutes of the Azure 2023 conversation trace.

    Args:
        load_line: requests per second that one replica carries within the objectives.
        phases: what to play.
    """
    published = shape("azure2023-conv").profile
    wobble = published.stretched_to(published.duration / 60.0 * _WOBBLE_STEP_SECONDS).with_mean_rate(1.0)
    levels: list[tuple[float, float]] = []
    began = 0.0
    for phase in phases:
        ended = began + phase.seconds
        moment = began
        while moment < ended:
            width = min(_WOBBLE_STEP_SECONDS, ended - moment)
            factor = wobble.rate_at((moment + width / 2) % wobble.duration)
            levels.append((phase.load * load_line * factor, width))
            moment += width
        began = ended
    return steps(levels)


def published_requests(
    load_line: float, *, seed: int, context: int, length_factor: float = 1.0, phases: Sequence[Phase] = PHASES
) -> tuple[Request, ...]:
    """The demo's requests drawn from the published statistics.

    Args:
        load_line: requests per second that one replica carries within the objectives.
        seed: the same seed gives the same requests.
        context: most tokens that input and output may have together.
        length_factor: every length is multiplied by this (a tiny model's context is short).
        phases: what to play.
    """
    published = shape("azure2023-conv")
    model = TrafficModel(rate_profile(load_line, phases), published.cv, published.input_tokens, published.output_tokens)
    return scale_lengths(model.requests(seed), length_factor, context)


def replayed_requests(
    trace: Sequence[Request],
    load_line: float,
    *,
    seed: int,
    context: int,
    length_factor: float = 1.0,
    phases: Sequence[Phase] = PHASES,
) -> tuple[Request, ...]:
    """The demo's requests taken from a real trace: its gaps and lengths, thinned or repeated to each phase's rate."""
    requests: list[Request] = []
    began = 0.0
    for number, phase in enumerate(phases):
        part = clip(trace, began, began + phase.seconds)
        rate = len(part) / phase.seconds
        wanted = phase.load * load_line
        thinned = scale_rate(part, wanted / rate, seed=seed + number) if rate > 0 else ()
        requests += [Request(r.at_seconds + began, r.input_tokens, r.output_tokens) for r in thinned]
        began += phase.seconds
    return scale_lengths(sorted(requests, key=lambda r: r.at_seconds), length_factor, context)
