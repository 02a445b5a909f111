"""The memory ledger as arithmetic: one line per term, each with where its number is from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.memory.ledger import MemoryLedger

Sign = Literal["", "x", "-", "=", "/"]


@dataclass(frozen=True)
class Term:
    """One line of the calculation.

    Args:
        sign: how it joins the lines above; empty on the first line.
        name: what it is.
        value: its number as text.
        unit: `GiB`, `blocks`, `tokens`, `sequences`, `B`, or empty.
        source: where it is from, in words.
    """

    sign: Sign
    name: str
    value: str
    unit: str
    source: str


def kv_cache_terms(ledger: MemoryLedger, config: ResolvedConfig) -> tuple[Term, ...]:
    """From the GPU's memory to the sequences that its KV cache holds, as vLLM works it out at start-up."""
    graphs = (
        (Term("-", "CUDA graphs", _gib(ledger.cuda_graphs_gib), "GiB", "captured sizes, by layers; in this budget"),)
        if ledger.cuda_graphs_in_budget
        else ()
    )
    left = _left(ledger)
    interval = f"90 % of starts: {ledger.kv_cache_low_gib:.2f} to {ledger.kv_cache_high_gib:.2f}"
    block = f"{ledger.block_size} tokens, layers that share a block"
    needed = ledger.kv_cache_blocks / ledger.max_concurrency if _positive(ledger.max_concurrency) else math.nan
    return (
        Term("", "GPU memory", _gib(ledger.gpu_total_gib), "GiB", "total that the driver reports"),
        Term("x", "gpu_memory_utilization", f"{config.gpu_memory_utilization:g}", "", "share that the engine may take"),
        Term("=", "budget", _gib(ledger.requested_gib), "GiB", ""),
        Term("-", "weights", _gib(ledger.weights_gib), "GiB", "of one GPU, with adapters and drafts"),
        Term("-", "activation peak", _gib(ledger.activation_peak_gib), "GiB", "profile run: forward pass, sampler"),
        Term("-", "outside torch", _gib(ledger.non_torch_gib), "GiB", "collective and kernel workspaces"),
        *graphs,
        Term("=", "KV cache", _gib(left), "GiB", interval if left > 0 else "missing: the engine does not start"),
        Term("/", "bytes per block", f"{ledger.bytes_per_block:,}", "B", block),
        Term("=", "KV blocks", f"{ledger.kv_cache_blocks:,}", "blocks", "rounded down"),
        Term("/", "blocks per sequence", _count(needed), "blocks", f"of max_model_len {config.max_model_len:,}"),
        Term("=", "sequences", f"{ledger.max_concurrency:.2f}", "sequences", "of max_model_len, at once"),
    )


def remainder_terms(ledger: MemoryLedger) -> tuple[Term, ...]:
    """What the budget leaves of the GPU, and what must fit in it."""
    graphs = (
        ()
        if ledger.cuda_graphs_in_budget
        else (Term("-", "CUDA graphs", _gib(ledger.cuda_graphs_gib), "GiB", "outside the budget in this release"),)
    )
    return (
        Term("", "GPU memory", _gib(ledger.gpu_total_gib), "GiB", "total that the driver reports"),
        Term("-", "budget", _gib(ledger.requested_gib), "GiB", "as above"),
        Term("-", "CUDA context", _gib(ledger.context_gib), "GiB", "taken before the engine measures"),
        *graphs,
        Term("=", "free", _gib(ledger.unused_gib), "GiB", "for drivers, other processes, fragmentation"),
    )


def _left(ledger: MemoryLedger) -> float:
    """GiB for the KV cache; below zero where the ledger says zero because something is missing."""
    if ledger.kv_cache_gib > 0:
        return ledger.kv_cache_gib
    graphs = ledger.cuda_graphs_gib if ledger.cuda_graphs_in_budget else 0.0
    used = ledger.weights_gib + ledger.activation_peak_gib + ledger.non_torch_gib + graphs
    return min(0.0, ledger.requested_gib - used)


def _gib(value: float) -> str:
    return f"{value:.2f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
