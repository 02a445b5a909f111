"""From what a search found to the recommendation: final settings, prediction, cost, reasons, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.latency.efficiency import efficiency_of
from plimsoll_recommender.latency.predict import UNCALIBRATED, at_point
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.prediction import Prediction, Throughput
from plimsoll_recommender.recommendation import (
    Alternative,
    Confidence,
    Cost,
    FieldReason,
    FleetMember,
    Recommendation,
)
from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import Candidate, carrying
from plimsoll_recommender.search.explore import WORTHWHILE_GAIN, Explored
from plimsoll_recommender.search.fleets import ENOUGH, Members, carried, cost_of, covered
from plimsoll_recommender.search.frontier import Seen, faster, frontier, latencies, quickly, seen
from plimsoll_recommender.search.reasons import PINNED, Chosen, alternative, alternatives, fleet_reasons
from plimsoll_recommender.search.setting_reasons import setting_reasons
from plimsoll_recommender.search.settings import anew, sequences_for, with_context, with_sequences

BURST_ALLOWANCES: Final = (1.5, 2.0, 3.0, 6.0, 12.0)
"""max_num_seqs over the mean running at the load line: a Poisson count of 30 stays below 1.5 times its mean; more where
the load line would suffer."""


def answer(ask: Ask, found: Explored, members: Members) -> Recommendation:
    """The recommendation of a fleet; of the best of one kind when there are no members of a mix."""
    fleet = members or _alone(found)
    slack = max(1.0, covered(ask, fleet)) if ask.demand is not None else 1.0
    settled = tuple((_settled(ask, candidate, slack), count) for candidate, count in fleet)
    before, (best, replicas) = fleet[0][0], settled[0]
    chosen = _chosen(ask, found, best, before)
    entries = tuple(_member(ask, candidate, count, settled) for candidate, count in settled)
    confidence, why = _confidence(ask, settled, found)
    cost, now = cost_of(ask, settled), seen(ask, best) if not members else _seen_in_mix(ask, settled)
    reasons = _reasons(ask, chosen, settled)
    others = alternatives(chosen, ask.objectives.percentile)
    if members and found.best is not None:
        others = (_one_kind(found.best, chosen, cost), *others)
    return Recommendation(
        accelerator=best.gpu,
        config=best.config,
        replicas=replicas,
        ledger=best.served.ledger,
        predicted=entries[0].predicted,
        predicted_at=best.rate,
        load_line_rps=best.rate,
        load_line_concurrency=best.running,
        reasons=reasons,
        alternatives=others,
        cost=Cost(cost, _per_million(ask, cost, settled), sum(entry.gpus for entry in entries)),
        confidence=confidence,
        confidence_why=why,
        facts=best.form.source,
        variant=best.form.variant,
        fleet=entries,
        ttft=now.ttft,
        tpot=now.tpot,
        e2e=now.e2e,
        pareto=_pareto(ask, chosen) if not members else (),
    )


def _alone(found: Explored) -> Members:
    assert found.best is not None
    return ((found.best, found.best.replicas),)


def _settled(ask: Ask, candidate: Candidate, slack: float) -> Candidate:
    """The candidate with max_num_seqs near what its load line runs, and the longest context that memory allows.

    Args:
        ask: the question.
        candidate: as the search found it: with the max_num_seqs that carries most.
        slack: what its fleet carries over the demand; the load line may fall by as much, and by 2 % at most.
    """
    place, least = candidate.place, candidate.rate * max(1 / slack, 1 - WORTHWHILE_GAIN)

    def enough(replica: Replica) -> Candidate | None:
        again = carrying(ask, place, anew(ask, place, replica))
        kept = again.sized and again.rate >= least * (1 - ENOUGH) and again.replicas == candidate.replicas
        return again if kept else None

    final = None
    for sequences in _fewer_sequences(ask, candidate):
        try:
            fewer = with_sequences(ask, place, candidate.served, sequences)
            final = enough(with_context(ask, place, fewer)) or enough(fewer)
        except RecommenderError:
            continue
        if final is not None:
            return final
    return enough(with_context(ask, place, candidate.served)) or enough(candidate.served) or candidate


def _fewer_sequences(ask: Ask, candidate: Candidate) -> list[int]:
    """Values of max_num_seqs to settle for, the fewest first."""
    if ask.limits.max_num_seqs is not None:
        return []
    running, replica = candidate.busiest.running, candidate.served
    wanted = (sequences_for(running, replica, allowance) for allowance in BURST_ALLOWANCES)
    return [sequences for sequences in dict.fromkeys(wanted) if sequences < candidate.config.max_num_seqs]


def _chosen(ask: Ask, found: Explored, best: Candidate, before: Candidate) -> Chosen:
    """The choice beside what it was chosen from, its neighbours on the same GPU sized for the explanation."""
    shapes = (
        replace(best.shape, tensor=best.shape.tensor * 2),
        replace(best.shape, tensor=max(1, best.shape.tensor // 2)),
        replace(best.shape, stages=best.shape.stages * 2),
        replace(best.shape, stages=max(1, best.shape.stages // 2)),
    )
    for place, other in enumerate(found.looked):
        if other.at_least is not None and other.form is best.form and other.gpu == best.gpu and other.shape in shapes:
            found.looked[place] = quickly(ask, other)
    known = latencies(ask, found.looked)
    faster(ask, found, known)
    edge = frontier(known)
    return Chosen(best, before, found.looked, found.budgets.get(before, ()), known, edge)


def _reasons(ask: Ask, chosen: Chosen, settled: Members) -> tuple[FieldReason, ...]:
    pinned = ask.limits.pinned()
    found = [*fleet_reasons(ask, chosen), *setting_reasons(ask, chosen)]
    if len(settled) > 1:
        found.insert(0, _fleet_reason(ask, settled))
        replicas = str(settled[0][1])
        found = [
            replace(r, value=replicas, because="its part of the fleet") if r.field == "replicas" else r for r in found
        ]
    return tuple(replace(reason, because=PINNED, rejected=()) if reason.field in pinned else reason for reason in found)


def _fleet_reason(ask: Ask, settled: Members) -> FieldReason:
    parts = ", ".join(f"{c.gpu.product} carries {carried(ask, c) * count:.3g}" for c, count in settled)
    whole = covered(ask, settled) >= 1 - ENOUGH
    aim = "cheapest mix within the limits that carries the load" if whole else "mix that carries most within the limits"
    return FieldReason(
        "fleet",
        " + ".join(f"{count} x {candidate.name}" for candidate, count in settled),
        f"{aim}, {cost_of(ask, settled):.2f}/h: of {ask.demand:g} {parts} ({ask.limits.headroom:.0%} kept free)",
    )


def _one_kind(best: Candidate, chosen: Chosen, cost: float) -> Alternative:
    """The best fleet of one kind beside a mix."""
    found = alternative(best, chosen, 0.0)
    why = (
        f"one kind alone: the limits allow {best.replicas} of the {best.wanted} replicas the load needs"
        if best.short
        else f"one kind alone costs {best.hourly_cost:.2f}/h, the mix {cost:.2f}"
    )
    return replace(found, rejected_because=why)


def _member(ask: Ask, candidate: Candidate, count: int, settled: Members) -> FleetMember:
    whole = sum(carried(ask, other) * copies for other, copies in settled)
    return FleetMember(
        accelerator=candidate.gpu,
        config=candidate.config,
        replicas=count,
        weight=carried(ask, candidate) * count / whole,
        load_line_rps=candidate.rate,
        load_line_concurrency=candidate.running,
        ledger=candidate.served.ledger,
        predicted=predicted_at_line(candidate),
        hourly_cost=cost_of(ask, [(candidate, count)]),
        variant=candidate.form.variant,
    )


def predicted_at_line(candidate: Candidate) -> Prediction:
    """Latency and throughput of one replica, all its data-parallel ranks together, at its load line."""
    replica, line, ranks = candidate.served, candidate.busiest, candidate.shape.ranks
    wide = 1.0 if efficiency_of(candidate.gpu.architecture).calibrated else UNCALIBRATED
    one = at_point(replica, line, line.rate, wide)
    through = one.throughput
    return replace(
        one,
        throughput=Throughput(
            through.requests_per_second * ranks,
            through.output_tokens_per_second * ranks,
            through.total_tokens_per_second * ranks,
        ),
        load_line_rps=candidate.rate,
        running=one.running * ranks,
        waiting=one.waiting * ranks,
    )


def _seen_in_mix(ask: Ask, settled: Members) -> Seen:
    """The worst of what users of any member see, each member at its routed share of the load."""
    whole = sum(carried(ask, candidate) * count for candidate, count in settled)
    found = []
    for candidate, count in settled:
        share = carried(ask, candidate) * count / whole
        rate, flight = ask.workload.requests_per_second, ask.workload.concurrency
        work = replace(
            ask.workload,
            requests_per_second=None if rate is None else rate * share,
            concurrency=None if flight is None else flight * share,
        )
        found.append(seen(replace(ask, workload=work), replace(candidate, replicas=count)))
    return Seen(*(max(getattr(each, name) for each in found) for name in ("ttft", "tpot", "e2e")))


def _pareto(ask: Ask, chosen: Chosen) -> tuple[Alternative, ...]:
    """The frontier with the choice among it."""
    percentile = ask.objectives.percentile
    found = []
    for candidate in chosen.frontier:
        point = alternative(candidate, chosen, percentile)
        found.append(replace(point, rejected_because="") if candidate is chosen.before else point)
    return tuple(found)


def _per_million(ask: Ask, cost: float, settled: Members) -> float | None:
    """Cost of a million output tokens at the expected rate, or at the load line when none is given."""
    most = sum(candidate.rate * count for candidate, count in settled)
    offered = ask.workload.requests_per_second or most
    per_hour = min(offered, most) * ask.workload.output_tokens * 3600
    return cost / per_hour * 1e6 if per_hour else None


def _confidence(ask: Ask, settled: Members, found: Explored) -> tuple[Confidence, str]:
    """How well what the recommendation rests on is calibrated: that of its weakest part."""
    parts = [candidate for candidate, _ in settled]
    best = parts[0]
    if len(parts) == 1 and best.short:
        return "Low", _short(ask, best, found)
    if len(parts) > 1 and covered(ask, settled) < 1 - ENOUGH:
        return "Low", f"the limits allow fleets that carry {covered(ask, settled):.0%} of the expected load at most"
    facts = best.form.source
    if facts.approximate:
        return "Low", f"{facts.approximate} of {facts.name} are approximated"
    for part in parts:
        if not efficiency_of(part.gpu.architecture).calibrated:
            return "Medium", f"step times of {part.gpu.product} are transferred from another GPU generation"
        if part.served.ledger.kv_cache_low_gib < 0.5 * part.served.ledger.kv_cache_gib:
            return "Medium", "the KV cache is small against what start-up memory may differ by"
    return "High", f"memory and step times of {best.gpu.architecture} GPUs are calibrated on measurements"


def _short(ask: Ask, best: Candidate, found: Explored) -> str:
    """What the limits keep from the load, and what would do."""
    why = f"the limits allow {best.replicas} of {best.wanted} replicas that the expected load needs"
    full = [(c.wanted * c.shape.gpus * ask.price(c.gpu), c) for c in found.looked if c.wanted]
    cost, candidate = min(full, key=lambda pair: (round(pair[0], 6), pair[1].wanted * pair[1].shape.gpus))
    other = (
        "" if ask.limits.mix_accelerators or not ask.limits.max_gpus or len(ask.gpus) < 2 else "; a mix is not allowed"
    )
    return f"{why}: the cheapest that would do is {candidate.wanted} x {candidate.name} at {cost:.2f}/h{other}"


def why_none(ask: Ask, looked: Sequence[Candidate]) -> str:
    """The reason of the candidate that came nearest: one that fits but is too slow, else the largest one."""
    slow = [candidate for candidate in looked if candidate.replica is not None]
    if slow:
        nearest = max(slow, key=lambda c: (c.gpu.data_bandwidth * c.shape.tensor, -c.shape.stages))
        return (
            f"no configuration of {ask.facts.name} meets the objectives: with {nearest.name}, {nearest.refused}: "
            "relax the objective or allow a faster GPU"
        )
    nearest = max(looked, key=lambda c: c.gpu.memory_gib * c.shape.gpus)
    if len(looked) == 1:
        return nearest.refused
    return f"{nearest.refused} (largest of {len(looked)} configurations tried)"
