"""What a candidate could carry at best, whatever its token budget: a bound that costs a tenth of sizing it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.search.ask import Ask
from plimsoll_recommender.search.candidates import Candidate, copies_for, floor_cost, token_budgets
from plimsoll_recommender.search.physics import MEAN_BELOW_PERCENTILE
from plimsoll_recommender.search.settings import MOST_SEQUENCES

HALVINGS: Final = 14
"""Of the number decoding: to 1/16000 of the slots, from above."""


def least_cost(ask: Ask, candidate: Candidate) -> float:
    """What the candidate's fleet costs at least when it carries the whole load.

    Bounds: a step is shortest with the largest token budget, a KV cache largest without activations and graphs, and a
    percentile above the mean. `candidate` fits.
    """
    place = candidate.place
    copies = copies_for(ask, *carries_at_most(ask, candidate))
    return max(floor_cost(ask, place), copies * place.shape.gpus * ask.price(place.gpu))


def carries_at_most(ask: Ask, candidate: Candidate) -> tuple[float, float]:
    """Bounds of (requests/s, requests in flight) of one replica of a candidate that fits."""
    ranks = candidate.shape.ranks
    rate, running = _most(ask, candidate.served)
    return rate * ranks, running * ranks


def _most(ask: Ask, replica: Replica) -> tuple[float, float]:
    """Bounds of (requests/s, requests in flight) of one rank at its load line."""
    freest = _freest(ask, replica)
    decoding = _most_decoding(ask, freest)
    rate = freest.at(decoding).rate
    if ask.workload.requests_per_second is not None:
        return rate, freest.slots
    budgets = (replace(freest, config=_budget(freest, tokens)) for tokens in token_budgets(ask))
    prefill = max(other.at(min(decoding, other.most_decoding)).prefill_time for other in budgets)
    return rate, decoding + rate * prefill


def _freest(ask: Ask, replica: Replica) -> Replica:
    """The replica with the largest token budget, and a KV cache that neither activations nor graphs take from."""
    ledger = replica.ledger
    room = ledger.kv_cache_gib + ledger.activation_peak_gib + ledger.cuda_graphs_gib
    by_kv = replica.slots_by_kv * room / ledger.kv_cache_gib if ledger.kv_cache_gib else math.inf
    most = float(ask.limits.max_num_seqs or MOST_SEQUENCES)
    config = _budget(replica, max(token_budgets(ask)))
    return replace(replica, config=config, slots_by_kv=by_kv, slots=max(1.0, min(most, by_kv)))


def _budget(replica: Replica, tokens: int) -> ResolvedConfig:
    return replace(replica.config, max_num_batched_tokens=tokens, max_num_seqs=min(replica.config.max_num_seqs, tokens))


def _most_decoding(ask: Ask, freest: Replica) -> float:
    """Most sequences decoding at which a mean step could meet the objectives."""
    objectives, high = ask.objectives, freest.most_decoding
    longest = math.inf if objectives.tpot is None else objectives.tpot
    if objectives.e2e is not None:
        longest = min(longest, objectives.e2e / max(ask.workload.output_tokens - 1.0, 1e-9))
    if objectives.percentile < MEAN_BELOW_PERCENTILE or freest.at(high).step <= longest:
        return high
    low = 0.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if freest.at(middle).step <= longest else (low, middle)
    return high
