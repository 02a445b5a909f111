"""Why the fleet is what it is: accelerator, division over GPUs, replicas; and what was considered instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.recommendation import Alternative, FieldReason
from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import Candidate, preference
from plimsoll_recommender.search.explore import CENT
from plimsoll_recommender.search.frontier import Seen
from plimsoll_recommender.search.shapes import Shape

MOST_ALTERNATIVES: Final = 10
"""Alternatives that are named: enough to see the neighbours, short enough to read."""

LEAST_DEARER: Final = 4
"""Of them, at least so many are not on the frontier, so that the cheapest ones that lost are seen."""

MOST_OF_KIND: Final = 2
"""Alternatives of one kind of accelerator before others are named."""

MOST_REJECTED: Final = 6
"""Neighbouring values of one field that are named."""

PINNED: Final = "set by you, obeyed as given"


@dataclass(frozen=True)
class Chosen:
    """The choice and what it was chosen from.

    Args:
        candidate: the choice with its final settings.
        before: the choice as the search found it, before max_num_seqs and max_model_len were settled.
        looked: every candidate.
        budgets: the choice with other token budgets.
        known: latencies under the expected load, by sized candidate.
        frontier: candidates that nothing is both cheaper and faster than.
    """

    candidate: Candidate
    before: Candidate
    looked: Sequence[Candidate]
    budgets: Sequence[Candidate]
    known: dict[Candidate, Seen]
    frontier: Sequence[Candidate]

    @property
    def replica(self) -> Replica:
        """One rank of the chosen replica."""
        return self.candidate.served

    def others(self) -> list[Candidate]:
        """Every other candidate, usable ones first, the nearest in price first."""
        return sorted((c for c in self.looked if c is not self.before), key=nearness)

    def on_this_gpu(self) -> list[Candidate]:
        """Others on the same GPU with the same form."""
        chosen = self.candidate
        return [c for c in self.others() if c.gpu == chosen.gpu and c.form is chosen.form]


def nearness(candidate: Candidate) -> tuple[float, ...]:
    """Order of candidates that lost: sized, then known to cost more, then refused; the cheapest first."""
    if candidate.sized:
        return (0.0, *preference(candidate))
    return (2.0 if candidate.refused else 1.0, candidate.at_least or 0.0, candidate.shape.gpus)


def fleet_reasons(ask: Ask, chosen: Chosen) -> list[FieldReason]:
    """Reasons of the accelerator, the shape and the replicas."""
    found = [_accelerator(ask, chosen), _tensor(chosen), _pipeline(chosen)]
    if ask.limits.allow_expert_parallel and ask.facts.is_mixture:
        found += [_ranks(chosen), _experts(chosen)]
    return [*found, _replicas(ask, chosen.candidate)]


def against(candidate: Candidate, best: Candidate) -> str:
    """Why a candidate lost against the best, with numbers."""
    if candidate.refused:
        return candidate.refused
    if candidate.at_least is not None:
        gpus = candidate.shape.gpus
        rates = "at datasheet rates" if candidate.replica is None else "at best"
        return f"{gpu_count(gpus)} per replica, {rates} {candidate.at_least:.2f}/h or more, not {best.hourly_cost:.2f}"
    if candidate.short and not best.short:
        return f"the limits allow {candidate.replicas} of the {candidate.wanted} replicas the load needs"
    carried = f"{candidate.rate:.3g} req/s per replica"
    if candidate.hourly_cost > best.hourly_cost + CENT:
        count = "1 replica costs" if candidate.replicas == 1 else f"{candidate.replicas} replicas cost"
        return f"{carried}, {count} {candidate.hourly_cost:.2f}/h, not {best.hourly_cost:.2f}"
    if candidate.gpus > best.gpus:
        return f"{carried}, same price with {candidate.gpus} GPUs instead of {best.gpus}"
    if candidate.form.order > best.form.order:
        return f"{carried}, same price: nothing is gained by changing the model's types"
    if candidate.shape.gpus != best.shape.gpus:
        return f"{carried}, same price with {gpu_count(candidate.shape.gpus)} per replica instead of {best.shape.gpus}"
    return f"{carried}, same price and GPUs in {_divided(candidate.shape)}"


def _divided(shape: Shape) -> str:
    """What is worse about a shape than about another of as many GPUs."""
    if shape.stages > 1:
        return f"{shape.stages} stages, one after the other for every token"
    return f"{shape.ranks} ranks" if shape.ranks > 1 else f"TP {shape.tensor}: more communication"


def gpu_count(count: int) -> str:
    """A number of GPUs in words."""
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _accelerator(ask: Ask, chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    kinds: dict[str, Candidate] = {}
    for other in chosen.others():
        if other.gpu != best.gpu:
            kinds.setdefault(other.gpu.product, other)
    rejected = tuple(f"{c.name}: {against(c, best)}" for c in list(kinds.values())[:MOST_REJECTED])
    if len(kinds) > MOST_REJECTED:
        rejected = (*rejected, f"{len(kinds) - MOST_REJECTED} more kinds, none cheaper")
    price = f"{gpu_count(best.gpus)} at {ask.price(best.gpu):.2f}/h"
    because = f"cheapest fleet that meets the objectives: {price}" if kinds else f"the only kind allowed; {price}"
    return FieldReason("accelerator", best.gpu.product, because, rejected)


def _tensor(chosen: Chosen) -> FieldReason:
    best, ledger = chosen.candidate, chosen.replica.ledger
    rejected = tuple(
        f"{c.shape.tensor}: {against(c, best)}"
        for c in sorted(chosen.on_this_gpu(), key=lambda c: c.shape.tensor)
        if c.shape == replace(best.shape, tensor=c.shape.tensor)
    )
    because = (
        f"{ledger.weights_gib:.1f} GiB of weights per GPU leave {ledger.kv_cache_gib:.1f} GiB for the KV cache, and "
        "this split carries the load at the lowest price"
    )
    domain = best.gpu.link_domain
    if best.shape.tensor > 1:
        inside = best.shape.tensor <= domain
        because += f"; {'inside' if inside else 'beyond'} the {domain} GPUs that fast links join"
    return FieldReason("tensor_parallel_size", str(best.shape.tensor), because, rejected)


def _pipeline(chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    others = [c for c in chosen.on_this_gpu() if c.shape.stages != best.shape.stages and c.shape.ranks == 1]
    rejected = tuple(f"{c.shape.stages} with TP {c.shape.tensor}: {against(c, best)}" for c in others[:3])
    stages = best.shape.stages
    if stages == 1:
        because = "one stage: stages lengthen every token, and no cheaper fleet has them"
    else:
        ledger = chosen.replica.ledger
        because = (
            f"{stages} stages divide weights and KV cache without all-reduces: {ledger.weights_gib:.1f} GiB of weights "
            f"per GPU leave {ledger.kv_cache_gib:.1f} GiB, and no other split carries more for the price"
        )
    return FieldReason("pipeline_parallel_size", str(stages), because, rejected)


def _ranks(chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    others = [c for c in chosen.on_this_gpu() if c.shape.ranks != best.shape.ranks]
    rejected = tuple(f"{c.shape}: {against(c, best)}" for c in others[:3])
    because = (
        "one rank: ranks that share experts carry no more for the price"
        if best.shape.ranks == 1
        else f"{best.shape.ranks} ranks share one set of experts, and each keeps a KV cache of its own requests"
    )
    return FieldReason("data_parallel_size", str(best.shape.ranks), because, rejected)


def _experts(chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    whole = best.shape.expert_parallel
    because = (
        "whole experts per GPU: every rank's tokens meet all experts"
        if whole
        else "every expert is divided: each GPU works on every token, whatever experts it is routed to"
    )
    return FieldReason("expert_parallel", str(whole).lower(), because)


def _replicas(ask: Ask, best: Candidate) -> FieldReason:
    usable = best.rate * (1 - ask.limits.headroom)
    running = best.running * (1 - ask.limits.headroom)
    rate, flight = ask.workload.requests_per_second, ask.workload.concurrency
    kept = f"{ask.limits.headroom:.0%} kept free"
    if best.short:
        because = f"the expected load needs {best.wanted}, the limits allow {best.replicas}"
    elif best.replicas > best.wanted:
        because = f"min_replicas; the expected load needs {best.wanted}"
    elif rate is not None:
        because = f"{rate:g} req/s over {usable:.3g} usable per replica (load line {best.rate:.3g}, {kept})"
    elif flight is not None:
        because = (
            f"{flight:g} in flight over {running:.3g} usable per replica ({best.running:.3g} at the load line, {kept})"
        )
    else:
        because = "no load was stated: one replica"
    rejected: tuple[str, ...] = ()
    fewer = best.wanted - 1
    if fewer and not best.short and rate is not None:
        rejected = (f"{fewer}: each would carry {rate / fewer:.3g} req/s of {usable:.3g} usable",)
    elif fewer and not best.short and flight is not None:
        rejected = (f"{fewer}: each would hold {flight / fewer:.3g} in flight of {running:.3g} usable",)
    return FieldReason("replicas", str(best.replicas), because, rejected)


def alternatives(chosen: Chosen, percentile: float) -> tuple[Alternative, ...]:
    """What else was considered, the nearest in price first: the frontier and the cheapest that lost."""
    others = chosen.others()
    fast = [c for c in chosen.frontier if c is not chosen.before][: MOST_ALTERNATIVES - LEAST_DEARER]
    rest = _varied([c for c in others if c not in fast])[: MOST_ALTERNATIVES - len(fast)]
    picked = sorted([*fast, *rest], key=nearness)
    return tuple(alternative(c, chosen, percentile) for c in picked)


def _varied(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same candidates, those of a kind of which `MOST_OF_KIND` came before last."""
    counted: Counter[str] = Counter()
    first: list[Candidate] = []
    last: list[Candidate] = []
    for candidate in candidates:
        counted[candidate.gpu.product] += 1
        (first if counted[candidate.gpu.product] <= MOST_OF_KIND else last).append(candidate)
    return [*first, *last]


def alternative(candidate: Candidate, chosen: Chosen, percentile: float) -> Alternative:
    """One candidate as an alternative to the choice."""
    best, seen = chosen.candidate, chosen.known.get(candidate)
    if not candidate.sized or seen is None:
        why = against(candidate, best)
        return Alternative(candidate.name, None, why, accelerator=candidate.gpu, variant=candidate.form.variant)
    on_frontier = candidate in chosen.frontier
    return Alternative(
        summary=f"{candidate.replicas} x {candidate.name}",
        hourly_cost=candidate.hourly_cost,
        rejected_because=_traded(candidate, chosen, percentile, on_frontier=on_frontier),
        accelerator=candidate.gpu,
        config=candidate.config,
        replicas=candidate.replicas,
        gpus=candidate.gpus,
        load_line_rps=candidate.rate,
        ttft=seen.ttft,
        tpot=seen.tpot,
        e2e=seen.e2e,
        on_frontier=on_frontier,
        variant=candidate.form.variant,
    )


def _traded(candidate: Candidate, chosen: Chosen, percentile: float, *, on_frontier: bool) -> str:
    """Why a sized candidate lost: its price, and what its speed is worth."""
    why = against(candidate, chosen.candidate)
    before, after = chosen.known[chosen.before].e2e, chosen.known[candidate].e2e
    times = f"E2E p{percentile:g} {after:.3g} s instead of {before:.3g}"
    if on_frontier:
        return f"{why}; faster: {times}"
    return f"{why}; {'no faster' if after >= before else 'another is cheaper and faster'}: {times}"
