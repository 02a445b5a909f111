"""The recommendation: the cheapest fleet that meets the objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.errors import InfeasibleError, RecommenderError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.efficiency import efficiency_of
from plimsoll_recommender.latency.predict import UNCALIBRATED, at_point
from plimsoll_recommender.recommendation import Confidence, Cost, Limits, Recommendation
from plimsoll_recommender.search.candidates import BATCHED_TOKENS, Ask, Candidate, first_look, parallelisms, sized
from plimsoll_recommender.search.reasons import alternatives_to, reasons_for
from plimsoll_recommender.traffic import Objectives, Workload

REFINED: Final = 3
"""Leading candidates whose token budget is searched; the others are too far behind for it to matter."""

WORTHWHILE_GAIN: Final = 0.02
"""A larger token budget must raise the load line by this much: it makes single steps, and so stalls, longer."""


def recommend(
    facts: ModelFacts,
    accelerators: Sequence[Accelerator],
    workload: Workload,
    objectives: Objectives | None = None,
    limits: Limits | None = None,
) -> Recommendation:
    """The cheapest fleet of one kind of accelerator that meets the objectives, and why.

    Ties go to fewer GPUs, then to less tensor parallelism.

    Args:
        facts: the model.
        accelerators: the kinds that may be used.
        workload: expected traffic of the whole service. Without a rate or concurrency one replica is sized.
        objectives: what must hold at the percentile; None asks nothing.
        limits: what may not change or be exceeded.

    Raises:
        InfeasibleError: nothing fits, or no candidate meets the objectives even when idle.
        RecommenderError: no accelerators given.
    """
    if not accelerators:
        raise RecommenderError("no accelerators given: name at least one, such as NVIDIA-H100-80GB-HBM3")
    ask = Ask(facts, workload, objectives or Objectives(), limits or Limits())
    looked = [
        first_look(ask, gpu, tensor, stages)
        for gpu in dict.fromkeys(accelerators)
        for tensor, stages in parallelisms(ask, gpu)
    ]
    usable = sorted((c for c in looked if not c.refused), key=_preference)
    if not usable:
        raise InfeasibleError(_why_none(ask, looked))
    refined, others = _refined(ask, usable)
    best = min(refined, key=_preference)
    return _recommendation(ask, best, looked, others)


def _preference(candidate: Candidate) -> tuple[float, ...]:
    """What makes one candidate better than another: carrying the load, price, fewer GPUs, less communication."""
    assert candidate.line is not None
    missing = candidate.wanted - candidate.replicas if candidate.short else 0
    share = missing / candidate.wanted if missing else 0.0
    return (
        round(share, 6),
        round(candidate.hourly_cost, 6),
        candidate.gpus,
        candidate.tensor_parallel_size * candidate.pipeline_parallel_size,
        candidate.pipeline_parallel_size,
        -candidate.line.rate * candidate.replicas,
    )


def _refined(ask: Ask, usable: Sequence[Candidate]) -> tuple[list[Candidate], dict[Candidate, list[Candidate]]]:
    """The leading candidates with their best token budget, and the other budgets of each."""
    if ask.limits.max_num_batched_tokens is not None:
        return list(usable[:REFINED]), {}
    refined: list[Candidate] = []
    others: dict[Candidate, list[Candidate]] = {}
    for leader in usable[:REFINED]:
        tried = [leader]
        for tokens in BATCHED_TOKENS:
            if leader.config is not None and tokens != leader.config.max_num_batched_tokens:
                candidate = sized(ask, leader.gpu, leader.tensor_parallel_size, leader.pipeline_parallel_size, tokens)
                if not candidate.refused:
                    tried.append(candidate)
        best = _best_budget(tried)
        refined.append(best)
        others[best] = [candidate for candidate in tried if candidate is not best]
    return refined, others


def _best_budget(tried: Sequence[Candidate]) -> Candidate:
    """The smallest token budget whose load line is within the worthwhile gain of the best."""

    def rate(candidate: Candidate) -> float:
        return candidate.line.rate if candidate.line else 0.0

    cheapest = min(_preference(candidate)[:2] for candidate in tried)
    equal = [candidate for candidate in tried if _preference(candidate)[:2] == cheapest]
    most = max(rate(candidate) for candidate in equal)
    good = [candidate for candidate in equal if rate(candidate) >= most * (1 - WORTHWHILE_GAIN)]
    return min(good, key=lambda candidate: candidate.config.max_num_batched_tokens if candidate.config else math.inf)


def _recommendation(
    ask: Ask, best: Candidate, looked: Sequence[Candidate], others: dict[Candidate, list[Candidate]]
) -> Recommendation:
    assert best.config is not None
    assert best.replica is not None
    assert best.line is not None
    rate = best.line.rate
    wide = 1.0 if efficiency_of(best.gpu.architecture).calibrated else UNCALIBRATED
    predicted = at_point(best.replica, best.line, rate, wide)
    confidence, why = _confidence(ask, best)
    offered = ask.workload.requests_per_second or rate * best.replicas
    tokens_per_hour = min(offered, rate * best.replicas) * ask.workload.output_tokens * 3600
    return Recommendation(
        accelerator=best.gpu,
        config=best.config,
        replicas=best.replicas,
        ledger=best.replica.ledger,
        predicted=predicted,
        predicted_at=rate,
        load_line_rps=rate,
        load_line_concurrency=best.line.running,
        reasons=reasons_for(ask, best, looked, others.get(best, [])),
        alternatives=alternatives_to(ask, best, looked),
        cost=Cost(best.hourly_cost, best.hourly_cost / tokens_per_hour * 1e6 if tokens_per_hour else None, best.gpus),
        confidence=confidence,
        confidence_why=why,
    )


def _confidence(ask: Ask, best: Candidate) -> tuple[Confidence, str]:
    """How well what the recommendation rests on is calibrated."""
    assert best.replica is not None
    if best.short:
        return "Low", f"the limits allow {best.replicas} of {best.wanted} replicas that the expected load needs"
    if ask.facts.approximate:
        return "Low", f"{ask.facts.approximate} of {ask.facts.name} are approximated"
    if not efficiency_of(best.gpu.architecture).calibrated:
        return "Medium", f"step times of {best.gpu.product} are transferred from another GPU generation"
    if best.replica.ledger.kv_cache_low_gib < 0.5 * best.replica.ledger.kv_cache_gib:
        return "Medium", "the KV cache is small against what start-up memory may differ by"
    return "High", f"memory and step times of {best.gpu.architecture} GPUs are calibrated on measurements"


def _why_none(ask: Ask, looked: Sequence[Candidate]) -> str:
    """The reason of the candidate that came nearest: one that fits but is too slow, else the largest one."""
    slow = [candidate for candidate in looked if candidate.config is not None]
    if slow:
        nearest = max(slow, key=lambda c: (c.gpu.memory_bandwidth * c.tensor_parallel_size, -c.pipeline_parallel_size))
        return (
            f"no configuration of {ask.facts.name} meets the objectives: with {nearest.name}, {nearest.refused}: "
            "relax the objective or allow a faster GPU"
        )
    nearest = max(looked, key=lambda c: c.gpu.memory_gib * c.tensor_parallel_size * c.pipeline_parallel_size)
    if len(looked) == 1:
        return nearest.refused
    return f"{nearest.refused} (largest of {len(looked)} configurations tried)"
