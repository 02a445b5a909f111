"""One candidate: a place, the settings that suit it, what it carries, and the fleet that carries the load."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.latency.distributions import quantile
from plimsoll_recommender.latency.predict import load_line, meets, open_times, violated
from plimsoll_recommender.latency.replica import OperatingPoint, Replica
from plimsoll_recommender.search.ask import Ask, Form
from plimsoll_recommender.search.settings import Place, first_that_fits, roomiest, too_large
from plimsoll_recommender.search.shapes import Shape, undividable
from plimsoll_recommender.traffic import Objectives

BATCHED_TOKENS: Final = (2048, 4096, 8192, 16_384)
"""Token budgets that are tried: below 2048 prompts crawl, above 16384 one step blocks every stream."""

FIRST_BATCHED_TOKENS: Final = 8192
"""Token budget of the first look at a candidate."""

ROUNDING: Final = 1e-9
"""A count of replicas is not raised for a load that exceeds it by this share: it is the arithmetic's own error."""

LINE_ERROR: Final = 2e-3
"""Relative error that a load line may have (its search ends at 1e-3)."""

LINE_HALVINGS: Final = 24
"""Of that error, where the number of replicas depends on it: to 1e-10, below `ROUNDING`."""

COST_DIGITS: Final = 6
"""Costs are rounded to this many digits: a product of a price and a count shows no more than the price has."""

IDLE: Final = 1e-6
"""Sequences decoding in a replica that is as good as idle."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A place with settings, sized for the load, or why there is none.

    Args:
        place: where it runs.
        replica: one data-parallel rank of a replica; None when nothing fits.
        line: the busiest point of a rank at which the objectives hold.
        replicas: copies for the expected load, headroom kept, within the limits.
        wanted: copies for the expected load without the limits.
        hourly_cost: of the fleet.
        refused: why it cannot be used; empty when it can.
        at_least: what its fleet costs at least, when it was not sized because that is more than the best costs.
    """

    place: Place
    replica: Replica | None = None
    line: OperatingPoint | None = None
    replicas: int = 0
    wanted: int = 0
    hourly_cost: float = math.inf
    refused: str = ""
    at_least: float | None = None

    @property
    def form(self) -> Form:
        """What is loaded."""
        return self.place.form

    @property
    def gpu(self) -> Accelerator:
        """The accelerator."""
        return self.place.gpu

    @property
    def shape(self) -> Shape:
        """How a replica is divided."""
        return self.place.shape

    @property
    def name(self) -> str:
        """Accelerator and shape in words."""
        return self.place.name

    @property
    def sized(self) -> bool:
        """Whether it can be used and its fleet is known."""
        return self.line is not None and not self.refused

    @property
    def busiest(self) -> OperatingPoint:
        """The load line of a rank; only of a sized candidate."""
        assert self.line is not None
        return self.line

    @property
    def served(self) -> Replica:
        """The rank's replica; only of a candidate that fits."""
        assert self.replica is not None
        return self.replica

    @property
    def config(self) -> ResolvedConfig:
        """The engine settings; only of a candidate that fits."""
        return self.served.config

    @property
    def rate(self) -> float:
        """Requests/s of one replica at its load line."""
        return self.busiest.rate * self.shape.ranks

    @property
    def running(self) -> float:
        """Requests in flight on one replica at its load line."""
        return self.busiest.running * self.shape.ranks

    @property
    def gpus(self) -> int:
        """GPUs of the fleet."""
        return self.replicas * self.shape.gpus

    @property
    def short(self) -> bool:
        """Whether the limits keep it below what the expected load needs."""
        return self.replicas < self.wanted

    @property
    def missing(self) -> float:
        """Share of the replicas that the limits do not allow (0 to 1)."""
        return round((self.wanted - self.replicas) / self.wanted, 6) if self.short else 0.0


def preference(candidate: Candidate) -> tuple[float, ...]:
    """What makes a sized candidate better: carrying the load, price, fewer GPUs, the model as it is, small replicas."""
    shape = candidate.shape
    return (
        candidate.missing,
        round(candidate.hourly_cost, 6),
        candidate.gpus,
        candidate.form.order,
        shape.gpus,
        shape.stages,
        shape.ranks,
        -candidate.rate * candidate.replicas,
    )


def token_budgets(ask: Ask) -> tuple[int, ...]:
    """Token budgets that are tried, the first look's first; at least the sequences that were asked for."""
    limits = ask.limits
    if limits.max_num_batched_tokens is not None:
        return (limits.max_num_batched_tokens,)
    least = limits.max_num_seqs or 1
    budgets = (FIRST_BATCHED_TOKENS, *BATCHED_TOKENS)
    return tuple(dict.fromkeys(max(tokens, least) for tokens in budgets))


def fitted(ask: Ask, place: Place) -> Candidate:
    """The candidate with the first token budget, or why it does not fit; not yet sized."""
    refused = undividable(place.form.facts, place.shape) or too_large(place)
    if refused:
        return Candidate(place, refused=refused)
    try:
        return Candidate(place, first_that_fits(ask, place, token_budgets(ask)[0]))
    except RecommenderError as error:
        return Candidate(place, refused=str(error))


def with_budget(ask: Ask, candidate: Candidate, tokens: int) -> Candidate:
    """The candidate with another token budget, sized."""
    try:
        replica = roomiest(ask, candidate.place, tokens, candidate.replica)
    except RecommenderError as error:
        return Candidate(candidate.place, refused=str(error))
    return carrying(ask, candidate.place, replica)


def carrying(ask: Ask, place: Place, replica: Replica) -> Candidate:
    """A candidate with its load line, replicas and cost."""
    line = _line(ask, place, replica)
    bare = Candidate(place, replica)
    if line.rate <= 0:
        return replace(bare, refused=_missed(replica, ask.objectives))
    wanted = copies_for(ask, line.rate * place.shape.ranks, line.running * place.shape.ranks)
    replicas, refused = _bounded(ask, place, wanted)
    cost = round(replicas * place.shape.gpus * ask.price(place.gpu), COST_DIGITS)
    return replace(bare, line=line, replicas=replicas, wanted=wanted, hourly_cost=cost, refused=refused)


def _line(ask: Ask, place: Place, replica: Replica) -> OperatingPoint:
    """The load line, to the last bits where a replica more or less hangs on them."""
    line, ranks = load_line(replica, ask.objectives), place.shape.ranks
    most = min(replica.most_decoding, line.decoding * (1 + LINE_ERROR))
    if line.rate <= 0 or most <= line.decoding:
        return line
    beyond = replica.at(most)
    if copies_for(ask, line.rate * ranks, line.running * ranks) == copies_for(
        ask, beyond.rate * ranks, beyond.running * ranks
    ):
        return line
    low, high = line.decoding, most
    for _ in range(LINE_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if meets(replica, replica.at(middle), ask.objectives) else (low, middle)
    return replica.at(low)


def copies_for(ask: Ask, rate: float, running: float) -> int:
    """Replicas for the expected load, headroom kept, when one carries a rate with a number running."""
    each = (rate if ask.workload.requests_per_second is not None else running) * (1 - ask.limits.headroom)
    return 1 if ask.demand is None else max(1, math.ceil(ask.demand / max(each, 1e-12) * (1 - ROUNDING)))


def floor_cost(ask: Ask, place: Place) -> float:
    """What the fewest replicas cost: no fleet of the place is cheaper."""
    return max(1, ask.limits.min_replicas) * place.shape.gpus * ask.price(place.gpu)


def _bounded(ask: Ask, place: Place, wanted: int) -> tuple[int, str]:
    """(replicas within the limits, why none is possible)."""
    limits, gpu, gpus = ask.limits, place.gpu, place.shape.gpus
    replicas = max(wanted, limits.min_replicas, 1)
    if limits.max_replicas is not None:
        replicas = min(replicas, limits.max_replicas)
    most = limits.max_gpus.get(gpu.product)
    if most is not None:
        replicas = min(replicas, most // gpus)
        if replicas < 1:
            return 0, f"one replica needs {gpus} GPUs, max_gpus of {gpu.product} is {most}"
    price = ask.price(gpu) * gpus
    if limits.budget_per_hour is not None and price > 0:
        replicas = min(replicas, int(limits.budget_per_hour / price + ROUNDING))
        if replicas < 1:
            return 0, f"one replica costs {price:.2f}/h, budget_per_hour is {limits.budget_per_hour:g}"
    return replicas, ""


def _missed(replica: Replica, objectives: Objectives) -> str:
    """Which objective a single request already misses, with numbers."""
    point = replica.at(IDLE)
    times = open_times(replica, point)
    field = violated(replica, point, objectives) or "ttft"
    mean, variation = getattr(times, field), getattr(times, f"{field}_variation")
    target = getattr(objectives, field)
    reached = quantile(mean, variation, objectives.percentile)
    return (
        f"{field} of an idle replica is {reached * 1000:.0f} ms at p{objectives.percentile:g}, the objective is "
        f"{(target or 0) * 1000:.0f} ms"
    )
