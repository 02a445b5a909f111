"""Why every engine setting has its value: the binding constraint, the numbers, and what its neighbours would do."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.latency.predict import bound_of, load_line, violated
from plimsoll_recommender.memory.ledger import memory_ledger
from plimsoll_recommender.recommendation import FieldReason
from plimsoll_recommender.search.ask import EIGHT_BIT_KV, Ask
from plimsoll_recommender.search.reasons import Chosen, against
from plimsoll_recommender.search.settings import (
    CONTEXT_SHARE,
    LARGEST_UTILIZATION,
    RESERVE_GIB,
    contexts,
    with_sequences,
)

LITTLE_ROOM: Final = 1.1
"""max_num_seqs over the number running up to which nothing is left for bursts but waiting."""

LESS_UTILIZATION: Final = 0.05
MORE_UTILIZATION: Final = 0.02
"""Neighbours of gpu_memory_utilization that are weighed: what people commonly try."""


def setting_reasons(ask: Ask, chosen: Chosen) -> list[FieldReason]:
    """One reason per engine setting that the recommendation states."""
    return [
        _sequences(ask, chosen),
        _batched_tokens(ask, chosen),
        _utilization(ask, chosen),
        _context(ask, chosen),
        _dtype(chosen),
        _quantization(ask, chosen),
        _kv_cache_dtype(ask, chosen),
        _version(ask, chosen),
    ]


def _sequences(ask: Ask, chosen: Chosen) -> FieldReason:
    replica, line, value = chosen.replica, chosen.candidate.busiest, chosen.candidate.config.max_num_seqs
    limit = violated(replica, replica.at(min(line.decoding * 1.05, replica.most_decoding)), ask.objectives)
    binding = f"{limit.upper()} objective" if limit else bound_of(replica, line, saturated=True)
    room = ", the rest is room for bursts" if value > line.running * LITTLE_ROOM else ""
    because = (
        f"{line.running:.3g} run at the load line ({binding} binds){room}; the KV cache holds "
        f"{replica.slots_by_kv:.0f} requests of mean length"
    )
    rejected = tuple(_sequences_instead(ask, chosen, other) for other in (max(1, value // 2), value * 2))
    return FieldReason("max_num_seqs", str(value), because, rejected)


def _sequences_instead(ask: Ask, chosen: Chosen, sequences: int) -> str:
    best = chosen.candidate
    if sequences > best.config.max_num_batched_tokens:
        return f"{sequences}: more than the {best.config.max_num_batched_tokens} tokens of a step"
    try:
        other = with_sequences(ask, best.place, chosen.replica, sequences)
    except RecommenderError as error:
        return f"{sequences}: {error}"
    line, now = load_line(other, ask.objectives).rate, best.busiest.rate
    if line < 0.99 * now:
        return f"{sequences}: load line {line:.3g} req/s instead of {now:.3g}, requests would wait for a place"
    moved = other.ledger.kv_cache_gib - chosen.replica.ledger.kv_cache_gib
    if sequences < best.config.max_num_seqs:
        return f"{sequences}: {best.busiest.running:.3g} run at the load line, bursts above {sequences} would queue"
    if line > 1.01 * now:
        return f"{sequences}: load line {line:.3g} req/s instead of {now:.3g}, not needed for this load"
    return f"{sequences}: carries no more, {-moved:.2f} GiB less KV cache, slower tokens for all when a burst fills it"


def _batched_tokens(ask: Ask, chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    rejected = tuple(
        f"{c.config.max_num_batched_tokens}: load line {c.rate:.3g} req/s"
        + (f", {c.replicas} replicas" if c.replicas != best.replicas else "")
        for c in sorted(chosen.budgets, key=lambda c: c.config.max_num_batched_tokens)
    )
    because = (
        f"smallest token budget within 2 % of the best load line ({best.rate:.3g} req/s) at this cost: shorter stalls"
    )
    if (ask.limits.max_num_seqs or 0) > best.config.max_num_batched_tokens:
        because = "at least max_num_seqs: every sequence needs a token in a step"
    return FieldReason("max_num_batched_tokens", str(best.config.max_num_batched_tokens), because, rejected)


def _utilization(ask: Ask, chosen: Chosen) -> FieldReason:
    ledger, share = chosen.replica.ledger, chosen.candidate.config.gpu_memory_utilization
    left = ledger.gpu_total_gib - ledger.requested_gib
    inside = "inside the budget" if ledger.cuda_graphs_in_budget else f"outside it, {ledger.cuda_graphs_gib:.2f} GiB"
    because = (
        f"leaves {left:.2f} of the {ledger.gpu_total_gib:.2f} GiB that the driver reports for the CUDA context "
        f"({ledger.context_gib:.2f}) and a reserve of {RESERVE_GIB:g}; this release counts CUDA graphs {inside}"
    )
    rejected = []
    if share == ask.limits.utilization_ceiling.get(chosen.candidate.gpu.product):
        because = f"the utilization_ceiling given for this GPU; leaves {left:.2f} of {ledger.gpu_total_gib:.2f} GiB"
    higher, lower = round(share + MORE_UTILIZATION, 2), round(share - LESS_UTILIZATION, 2)
    if higher < 1:
        ceiling = share >= LARGEST_UTILIZATION
        why = (
            "above the ceiling for any GPU: drivers and fragmentation need some"
            if ceiling
            else (f"leaves {ledger.gpu_total_gib * (1 - higher):.2f} GiB, the reserve would not fit")
        )
        rejected.append(f"{higher:g}: {why}")
    if lower > 0:
        rejected.append(f"{lower:g}: {ledger.gpu_total_gib * LESS_UTILIZATION:.2f} GiB less KV cache, for nothing")
    return FieldReason("gpu_memory_utilization", f"{share:g}", because, tuple(rejected))


def _context(ask: Ask, chosen: Chosen) -> FieldReason:
    best, ledger = chosen.candidate, chosen.replica.ledger
    facts = best.form.source
    value, own = best.config.max_model_len, facts.max_position_embeddings
    p95 = ask.workload.input_p95 + ask.workload.output_p95
    if value >= own:
        because = f"the model's own; {ledger.max_concurrency:.1f} such sequences fit at once"
        return FieldReason("max_model_len", str(value), because, (f"{own + 1:,}: the model has no more positions",))
    rejected = (f"{own:,}: the model's own, one such request would evict most others",)
    if value > contexts(ask, facts)[0]:
        because = f"one sequence may take {CONTEXT_SHARE:.0%} of the {ledger.kv_cache_tokens:,} KV tokens"
    elif value == contexts(ask, facts)[0]:
        because = (
            f"memory binds: twice the p95 request of {p95:,.0f} tokens, in {ledger.kv_cache_gib:.1f} GiB of KV cache"
        )
    else:
        held = f"{ledger.kv_cache_gib:.1f} GiB of KV cache"
        because = f"memory binds: {held} hold the p95 request of {p95:,.0f} tokens, not twice that"
    return FieldReason("max_model_len", str(value), because, rejected)


def _dtype(chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    own = best.form.source.dtype
    if best.config.dtype == "auto":
        return FieldReason("dtype", "auto", f"the checkpoint's {own}, which {best.gpu.product} computes in")
    why = f"{best.gpu.product} does not compute in {own}"
    return FieldReason(
        "dtype", best.config.dtype, f"{why}: the other 16-bit type", (f"{own}: the engine would refuse",)
    )


def _quantization(ask: Ask, chosen: Chosen) -> FieldReason:
    best = chosen.candidate
    stored = best.form.source.quantization
    value = best.config.quantization or (stored.label if stored else "none")
    gib = chosen.replica.ledger.weights_gib
    if best.form.variant:
        because = f"{best.form.variant}, which you allow, is cheaper: {gib:.1f} GiB of weights per GPU"
    elif stored:
        because = f"as the checkpoint is stored: {gib:.1f} GiB of weights per GPU"
    else:
        because = (
            f"as the checkpoint is stored, not quantised: {gib:.1f} GiB of weights per GPU; accuracy is yours to trade"
        )
    others: dict[str, str] = {}
    for other in chosen.others():
        name = other.form.variant or ask.facts.name
        if other.form.variant != best.form.variant:
            others.setdefault(name, f"{name} ({other.gpu.product} {other.shape}): {against(other, best)}")
    return FieldReason("quantization", value, because, tuple(others.values()))


def _kv_cache_dtype(ask: Ask, chosen: Chosen) -> FieldReason:
    best, value = chosen.candidate, chosen.candidate.config.kv_cache_dtype
    same = [c for c in chosen.others() if c.form.variant == best.form.variant]
    others: dict[str, str] = {}
    for other in same:
        dtype = other.form.kv_cache_dtype
        if dtype != value:
            others.setdefault(dtype, f"{dtype} ({other.gpu.product} {other.shape}): {against(other, best)}")
    if value != "auto":
        own = replace(best.config, kv_cache_dtype="auto")
        fit = f"{_kv_tokens(chosen)} tokens fit, {_tokens_with(chosen, own)} in the model's own type"
        because = f"which you allow, is cheaper: {fit}"
        return FieldReason("kv_cache_dtype", value, because, tuple(others.values()))
    because = "the model's own type: answers stay what the checkpoint gives"
    if not others and best.gpu.flops_fp8 is not None and not ask.limits.allow_kv_cache_dtypes:
        tokens = _tokens_with(chosen, replace(best.config, kv_cache_dtype="fp8"))
        others["fp8"] = (
            f"fp8: {tokens} tokens would fit instead of {_kv_tokens(chosen)}; it rounds keys and values: yours to allow"
        )
    elif (
        not others
        and best.gpu.flops_fp8 is None
        and EIGHT_BIT_KV.intersection(("fp8", *ask.limits.allow_kv_cache_dtypes))
    ):
        others["fp8"] = f"fp8: {best.gpu.product} does not compute in fp8"
    return FieldReason("kv_cache_dtype", value, because, tuple(others.values()))


def _kv_tokens(chosen: Chosen) -> str:
    return f"{chosen.replica.ledger.kv_cache_tokens:,}"


def _tokens_with(chosen: Chosen, config: ResolvedConfig) -> str:
    """KV tokens with another configuration, in words."""
    best = chosen.candidate
    try:
        return f"{memory_ledger(best.form.facts, best.gpu, config).kv_cache_tokens:,}"
    except RecommenderError:
        return "no"


def _version(ask: Ask, chosen: Chosen) -> FieldReason:
    value = chosen.candidate.config.engine_version
    because = "as you say it runs" if ask.limits.engine_version else "the oldest release without a known advisory"
    ledger = chosen.replica.ledger
    graphs = "inside" if ledger.cuda_graphs_in_budget else "outside"
    because += f"; start-up takes {ledger.activation_peak_gib:.2f} GiB of activations, CUDA graphs {graphs} the budget"
    return FieldReason("engine_version", value, because)
