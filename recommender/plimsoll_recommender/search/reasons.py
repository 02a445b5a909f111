"""Why every field has its value, and what was considered instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from plimsoll_recommender.latency.predict import bound_of, violated
from plimsoll_recommender.memory import budget
from plimsoll_recommender.recommendation import Alternative, FieldReason
from plimsoll_recommender.search.candidates import (
    BURST_ALLOWANCE,
    CONTEXT_SHARE,
    LARGEST_UTILIZATION,
    RESERVE_GIB,
    Ask,
    Candidate,
)

MOST_ALTERNATIVES: Final = 8
"""Alternatives that are named: enough to see the neighbours, short enough to read."""

PINNED: Final = "set by you, obeyed as given"


def reasons_for(
    ask: Ask, best: Candidate, looked: Sequence[Candidate], budgets: Sequence[Candidate]
) -> tuple[FieldReason, ...]:
    """One reason per field of the recommendation.

    Args:
        ask: what was asked.
        best: the chosen candidate.
        looked: every candidate, the chosen one's first look among them.
        budgets: the chosen candidate with other token budgets.
    """
    assert best.config is not None
    config, pinned = best.config, ask.limits.pinned()
    found = [
        _accelerator(ask, best, looked),
        _tensor(best, looked),
        _pipeline(best, looked),
        _replicas(ask, best),
        _sequences(ask, best),
        _batched_tokens(best, budgets),
        _utilization(best),
        _context(ask, best),
        FieldReason(
            "kv_cache_dtype",
            config.kv_cache_dtype,
            "the model's own type: answers stay what the checkpoint gives",
            ("fp8 would hold twice the tokens, but rounds keys and values: set it to allow it",),
        ),
    ]
    return tuple(replace(reason, because=PINNED, rejected=()) if reason.field in pinned else reason for reason in found)


def _of(best: Candidate, looked: Sequence[Candidate], *, same_gpu: bool) -> list[Candidate]:
    """Other candidates on the same GPU, or the best of every other GPU."""
    if same_gpu:
        return [c for c in looked if c.gpu == best.gpu and c is not best]
    products: dict[str, Candidate] = {}
    for candidate in looked:
        if candidate.gpu != best.gpu:
            known = products.get(candidate.gpu.product)
            if known is None or (candidate.hourly_cost, candidate.gpus) < (known.hourly_cost, known.gpus):
                products[candidate.gpu.product] = candidate
    return list(products.values())


def _against(candidate: Candidate, best: Candidate) -> str:
    """Why a candidate lost against the best, with numbers."""
    if candidate.refused:
        return candidate.refused
    if candidate.short and not best.short:
        return f"the limits allow {candidate.replicas} of the {candidate.wanted} replicas the load needs"
    assert candidate.line is not None
    carried = f"{candidate.line.rate:.3g} req/s per replica"
    if candidate.hourly_cost > best.hourly_cost + 1e-9:
        return (
            f"{carried}, {_replica_count(candidate.replicas)} {candidate.hourly_cost:.2f}/h, not {best.hourly_cost:.2f}"
        )
    if candidate.gpus > best.gpus:
        return f"same price with {candidate.gpus} GPUs instead of {best.gpus}"
    return f"{carried}: same price, more communication between GPUs"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _replica_count(count: int) -> str:
    return "1 replica costs" if count == 1 else f"{count} replicas cost"


def _accelerator(ask: Ask, best: Candidate, looked: Sequence[Candidate]) -> FieldReason:
    rejected = tuple(f"{c.name}: {_against(c, best)}" for c in _of(best, looked, same_gpu=False))
    because = (
        f"cheapest fleet that meets the objectives: {_gpus(best.gpus)} at {ask.price(best.gpu):.2f}/h"
        if rejected
        else f"the only kind allowed; {_gpus(best.gpus)} at {ask.price(best.gpu):.2f}/h"
    )
    return FieldReason("accelerator", best.gpu.product, because, rejected)


def _tensor(best: Candidate, looked: Sequence[Candidate]) -> FieldReason:
    assert best.replica is not None
    others = [c for c in _of(best, looked, same_gpu=True) if c.pipeline_parallel_size == best.pipeline_parallel_size]
    rejected = tuple(
        f"{c.tensor_parallel_size}: {_against(c, best)}"
        for c in others
        if c.tensor_parallel_size != best.tensor_parallel_size
    )
    ledger = best.replica.ledger
    because = (
        f"{ledger.weights_gib:.1f} GiB of weights per GPU leave {ledger.kv_cache_gib:.1f} GiB for the KV cache, and "
        "this split carries the load at the lowest price"
    )
    return FieldReason("tensor_parallel_size", str(best.tensor_parallel_size), because, rejected)


def _pipeline(best: Candidate, looked: Sequence[Candidate]) -> FieldReason:
    others = [c for c in _of(best, looked, same_gpu=True) if c.pipeline_parallel_size != best.pipeline_parallel_size]
    rejected = tuple(
        f"{c.pipeline_parallel_size} with TP {c.tensor_parallel_size}: {_against(c, best)}" for c in others[:3]
    )
    because = (
        "one stage: stages add hand-overs to every token and nothing needs them"
        if best.pipeline_parallel_size == 1
        else f"{best.pipeline_parallel_size} stages make room that tensor parallelism within a node cannot"
    )
    return FieldReason("pipeline_parallel_size", str(best.pipeline_parallel_size), because, rejected)


def _replicas(ask: Ask, best: Candidate) -> FieldReason:
    assert best.line is not None
    usable = best.line.rate * (1 - ask.limits.headroom)
    workload = ask.workload
    if best.short:
        because = f"the expected load needs {best.wanted}, the limits allow {best.replicas}"
    elif best.replicas > best.wanted:
        because = f"min_replicas; the expected load needs {best.wanted}"
    elif workload.requests_per_second is not None:
        because = (
            f"{workload.requests_per_second:g} req/s over {usable:.3g} usable per replica (load line "
            f"{best.line.rate:.3g}, {ask.limits.headroom:.0%} kept free)"
        )
    elif workload.concurrency is not None:
        because = (
            f"{workload.concurrency:g} in flight over {best.line.running * (1 - ask.limits.headroom):.3g} usable per "
            f"replica ({best.line.running:.3g} at the load line, {ask.limits.headroom:.0%} kept free)"
        )
    else:
        because = "no load was stated: one replica"
    rejected: tuple[str, ...] = ()
    if best.wanted > 1 and not best.short and workload.requests_per_second is not None:
        fewer = best.wanted - 1
        rejected = (
            f"{fewer}: each would carry {workload.requests_per_second / fewer:.3g} req/s of {usable:.3g} usable",
        )
    return FieldReason("replicas", str(best.replicas), because, rejected)


def _sequences(ask: Ask, best: Candidate) -> FieldReason:
    assert best.replica is not None
    assert best.line is not None
    assert best.config is not None
    replica, line, value = best.replica, best.line, best.config.max_num_seqs
    limit = violated(replica, replica.at(min(line.decoding * 1.05, replica.most_decoding)), ask.objectives)
    binding = f"{limit.upper()} objective" if limit else bound_of(replica, line, saturated=True)
    because = (
        f"{line.running:.3g} run at the load line ({binding} binds), times {BURST_ALLOWANCE:g} for bursts; the KV "
        f"cache holds {replica.slots_by_kv:.0f} of mean length"
    )
    activation = best.config.max_num_seqs * ask.facts.vocab_size * 4 * budget.SAMPLER_FP32_COPIES / 1024**3
    rejected = (
        f"{max(1, value // 2)}: bursts at the load line would queue",
        f"{value * 2}: {activation:.2f} GiB more for sampling, and slower tokens when the batch fills",
    )
    return FieldReason("max_num_seqs", str(value), because, rejected)


def _batched_tokens(best: Candidate, budgets: Sequence[Candidate]) -> FieldReason:
    assert best.config is not None
    assert best.line is not None
    rejected = tuple(
        f"{c.config.max_num_batched_tokens}: load line {c.line.rate:.3g} req/s"
        for c in budgets
        if c.config is not None and c.line is not None
    )
    because = f"smallest token budget within 2 % of the best load line ({best.line.rate:.3g} req/s): shorter stalls"
    return FieldReason("max_num_batched_tokens", str(best.config.max_num_batched_tokens), because, rejected)


def _utilization(best: Candidate) -> FieldReason:
    assert best.config is not None
    assert best.replica is not None
    ledger, share = best.replica.ledger, best.config.gpu_memory_utilization
    left = ledger.gpu_total_gib - ledger.requested_gib
    graphs = "" if ledger.cuda_graphs_in_budget else f", CUDA graphs {ledger.cuda_graphs_gib:.2f}"
    because = (
        f"leaves {left:.2f} of {ledger.gpu_total_gib:.2f} GiB for the CUDA context ({ledger.context_gib:.2f}){graphs} "
        f"and a reserve of {RESERVE_GIB:g}"
    )
    higher = round(share + 0.02, 2)
    why = "the ceiling for any GPU" if share >= LARGEST_UTILIZATION else "the reserve would not fit"
    rejected = (f"{higher:g}: {why}",) if higher < 1 else ()
    return FieldReason("gpu_memory_utilization", f"{share:g}", because, rejected)


def _context(ask: Ask, best: Candidate) -> FieldReason:
    assert best.config is not None
    assert best.replica is not None
    value, own = best.config.max_model_len, ask.facts.max_position_embeddings
    if value >= own:
        because = f"the model's own context; {best.replica.ledger.max_concurrency:.1f} such sequences fit at once"
        return FieldReason("max_model_len", str(value), because)
    because = f"one sequence may take {CONTEXT_SHARE:.0%} of {best.replica.ledger.kv_cache_tokens:,} KV tokens"
    return FieldReason(
        "max_model_len", str(value), because, (f"{own}: the model's own, one such request would evict most others",)
    )


def alternatives_to(ask: Ask, best: Candidate, looked: Sequence[Candidate]) -> tuple[Alternative, ...]:
    """What else was considered, the nearest in price first."""
    chosen = (best.gpu, best.tensor_parallel_size, best.pipeline_parallel_size)
    others = [c for c in looked if (c.gpu, c.tensor_parallel_size, c.pipeline_parallel_size) != chosen]
    others.sort(key=lambda c: (bool(c.refused), c.hourly_cost, c.gpus))
    return tuple(
        Alternative(
            summary=f"{c.replicas} x {c.name}" if not c.refused else c.name,
            hourly_cost=None if c.refused else c.hourly_cost,
            rejected_because=_against(c, best),
        )
        for c in others[:MOST_ALTERNATIVES]
    )
