"""Cost against latency: what every candidate's users see under the expected load, and which ones nothing beats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.latency.distributions import quantile
from plimsoll_recommender.latency.predict import closed_loop, open_times
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.latency.step_time import StepTimeModel
from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import IDLE, Candidate, carrying, fitted, preference
from plimsoll_recommender.search.explore import CENT, Explored
from plimsoll_recommender.search.physics import MEAN_BELOW_PERCENTILE, idle_e2e
from plimsoll_recommender.search.settings import roomiest

MOST_COSTLY: Final = 8.0
"""Fleets that cost more than this many times the best are not looked at for their speed."""

MOST_LOOKS: Final = 12
"""Dearer candidates that are sized for their speed: the frontier has rarely more than four points."""


@dataclass(frozen=True)
class Seen:
    """Seconds at the objectives' percentile under the expected load, evenly spread over the replicas."""

    ttft: float
    tpot: float
    e2e: float


def seen(ask: Ask, candidate: Candidate) -> Seen:
    """What users see of a sized candidate's fleet."""
    replica, workload = candidate.served, ask.workload
    copies = max(candidate.replicas, 1) * candidate.shape.ranks
    percentile = ask.objectives.percentile
    if workload.concurrency is not None:
        found = closed_loop(replica, max(workload.concurrency / copies, IDLE), candidate.busiest.rate)
        return Seen(*(getattr(found, name).at(percentile) for name in ("ttft", "tpot", "e2e")))
    decoding = candidate.busiest.decoding
    if workload.requests_per_second is not None:
        decoding = replica.decoding_for(min(workload.requests_per_second / copies, candidate.busiest.rate)) or decoding
    return _at(replica, decoding, percentile)


def _at(replica: Replica, decoding: float, percentile: float) -> Seen:
    times = open_times(replica, replica.at(max(decoding, IDLE)))
    return Seen(
        quantile(times.ttft, times.ttft_variation, percentile),
        quantile(times.tpot, times.tpot_variation, percentile),
        quantile(times.e2e, times.e2e_variation, percentile),
    )


def latencies(ask: Ask, candidates: Iterable[Candidate]) -> dict[Candidate, Seen]:
    """What users see, by sized candidate."""
    return {candidate: seen(ask, candidate) for candidate in candidates if candidate.sized}


def frontier(known: dict[Candidate, Seen]) -> list[Candidate]:
    """Candidates that nothing known is both cheaper (or preferred at the price) and faster than, by E2E.

    The cheapest come first; those that the limits keep below the load come after all that carry it.
    """
    found: list[Candidate] = []
    # At one price the preferred comes first, and others only when they are faster.
    for candidate in sorted(known, key=preference):
        if not found or known[candidate].e2e < known[found[-1]].e2e * (1 - CENT):
            found.append(candidate)
    return found


def faster(ask: Ask, found: Explored, known: dict[Candidate, Seen]) -> None:
    """Size the dearer candidates that could be faster than all cheaper ones, and add them to what was found.

    An idle replica is at least as fast as a loaded one, so a candidate whose idle E2E is above that of something no
    dearer cannot be on the frontier. It needs a dozen looks at most; the cheapest come first.
    """
    best = found.best
    if best is None:
        return
    limit = best.hourly_cost * MOST_COSTLY
    open_ones = [c for c in found.looked if c.at_least is not None and c.at_least <= limit and c.form is best.form]
    looks = 0
    for candidate in sorted(open_ones, key=lambda c: (c.at_least or 0.0, c.shape.gpus, c.name)):
        if looks >= MOST_LOOKS:
            break
        fastest = min((known[c].e2e for c in known if c.hourly_cost <= (candidate.at_least or 0.0) + CENT), default=0.0)
        if _idle_above(ask, candidate, best, fastest):
            continue
        looks += 1
        sized = quickly(ask, candidate)
        found.looked[found.looked.index(candidate)] = sized
        if sized.sized:
            known[sized] = seen(ask, sized)


def quickly(ask: Ask, candidate: Candidate) -> Candidate:
    """A candidate sized with the token budget of the first look; `at_least` is kept for what does not fit."""
    if candidate.replica is None:
        candidate = fitted(ask, candidate.place)
    if candidate.replica is None:
        return candidate
    try:
        replica = roomiest(ask, candidate.place, candidate.config.max_num_batched_tokens, candidate.replica)
    except RecommenderError as error:
        return Candidate(candidate.place, refused=str(error))
    return carrying(ask, candidate.place, replica)


def _idle_above(ask: Ask, candidate: Candidate, best: Candidate, fastest: float) -> bool:
    """Whether even an idle replica is no faster."""
    percentile = ask.objectives.percentile
    if percentile >= MEAN_BELOW_PERCENTILE and idle_e2e(ask, candidate.place) >= fastest:
        return True
    replica = candidate.replica or _like(candidate, best)
    return replica is None or _at(replica, IDLE, percentile).e2e >= fastest


def _like(candidate: Candidate, best: Candidate) -> Replica | None:
    """A replica with the candidate's step times and the best's settings and memory: as good as its own when idle."""
    shape = candidate.shape
    config = replace(
        best.config,
        tensor_parallel_size=shape.tensor,
        pipeline_parallel_size=shape.stages,
        data_parallel_size=shape.ranks,
        expert_parallel=shape.expert_parallel,
    )
    try:
        model = StepTimeModel.for_engine(candidate.form.facts, candidate.gpu, config)
    except RecommenderError:
        return None
    return replace(best.served, config=config, model=model)
