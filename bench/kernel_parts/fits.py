"""A law of each family of kernels, fitted to tables of measured ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from bench.kernel_parts.tables import (
    A100,
    ATTENTION,
    B200,
    B300,
    H100,
    H200,
    L40S,
    NEWER,
    PRO_6000,
    Array,
    Columns,
    System,
    Tables,
    floats,
    measured,
)
from numpy.typing import NDArray

from plimsoll_recommender import accelerator
from plimsoll_recommender.latency.kernels import (
    ACTIVATION_BYTES,
    CHAIN_TOKENS,
    CollectiveLaw,
    DecodeLaw,
    ExpertsLaw,
    MatmulLaw,
    PrefillLaw,
)

MATMUL_FORMATS: Final = {
    "bfloat16": ("16bit", 2.0),
    "fp8": ("fp8", 1.0),
    "fp8_block": ("fp8-block", 1.0),
    "nvfp4": ("fp4", 0.5625),
}
"""Type in the tables: format of the laws, bytes per element with scales."""

EXPERT_FORMATS: Final = {
    **MATMUL_FORMATS,
    "int4_wo": ("weight-only", 0.5),
    "w4a16_mxfp4": ("mxfp4", 0.53125),
    "w4a8_mxfp4_mxfp8": ("mxfp4", 0.53125),
}

CACHE_BYTES: Final = 1e8
"""Expert weights below this may stay in the second-level cache while a kernel is timed, as they do not when serving."""

CACHE_MARGIN: Final = 1.5
"""KV caches of less than so many second-level caches are partly read from it; those too small to matter are kept."""

SMALL_CACHE: Final = 2e6
"""Bytes of a KV cache that takes no time to read anywhere: rows that show the fixed times."""

ROWS: Final = (
    *(1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 512, 768),
    *(1024, 1536, 2048, 3072, 4096, 8192, 16_384),
)
"""Rows of products that are fitted: the tables have more of the small ones."""


@dataclass(frozen=True)
class Fit:
    """A law fitted to a table: coefficients, mean absolute error of the logarithms, and rows."""

    generation: str
    family: str
    law: object
    error: float
    rows: int


def _least_squares(
    seconds: Callable[[Array], Array],
    times: Array,
    start: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> tuple[list[float], float]:
    """Coefficients that minimise robust squared logarithms, and the mean absolute logarithm."""
    from scipy.optimize import least_squares

    def residuals(values: Array) -> Array:
        logarithms: Array = np.log(seconds(values) / times)
        return logarithms

    bounds, scale = (low, high), np.asarray(high)
    found = least_squares(residuals, start, bounds=bounds, x_scale=scale, loss="soft_l1", f_scale=0.15)
    return [float(value) for value in found.x], float(np.mean(np.abs(residuals(found.x))))


def _non_negative(terms: Sequence[Array], times: Array) -> tuple[list[float], float]:
    """Non-negative coefficients of terms that minimise squared relative errors, and the mean absolute logarithm."""
    from scipy.optimize import nnls

    matrix = np.stack(terms, axis=1)
    found = nnls(matrix / times[:, None], np.ones_like(times))[0]
    return [float(value) for value in found], float(np.mean(np.abs(np.log(matrix @ found / times))))


def matmul(tables: Tables, systems: Sequence[System], table_type: str, release: str = "") -> Fit | None:
    """The law of dense products in one format, over the systems of one generation."""
    form, width = MATMUL_FORMATS[table_type]
    parts: list[list[Array]] = []
    for system in systems:
        columns = tables.columns(system, "gemm", release or system.release, "gemm")
        rows, outputs, inputs = columns["m"], columns["n"], columns["k"]
        chosen = (columns["gemm_dtype"] == table_type) & np.isin(rows, ROWS)
        chosen &= (outputs >= 256) & (outputs <= 33_000) & (inputs >= 512)
        chosen &= outputs * inputs >= (system.least_weight / width if system.cache else 2**20)
        if chosen.any():
            parts.append(measured(columns, chosen, ("m", "n", "k", "latency"), system, form))
    if not parts:
        return None
    m, n, k, times, bandwidth, flops = (np.concatenate(column) for column in zip(*parts, strict=True))

    def seconds(values: Array) -> Array:
        launch, per_input, reached, compute, traffic, sharp = values
        memory = n * k * width / (bandwidth * reached)
        arithmetic = 2 * m * n * k / (flops * compute)
        time = launch * 1e-6 + per_input * 1e-9 * k + (memory**sharp + arithmetic**sharp) ** (1 / sharp)
        time += traffic * 2 * m * (n + k) / bandwidth
        return np.asarray(time, dtype=np.float64)

    # Large weights do not show what a launch takes: no less than on any other generation.
    launch = 2.0 if systems[0].cache else 0.0
    low, high = (launch, 0, 0.1, 0.1, 0, 1.5), (20, 5, 0.95, 1, 20, 8)
    x, error = _least_squares(seconds, times, (3, 0.5, 0.8, 0.6, 0.5, 3), low, high)
    law = MatmulLaw(x[0] * 1e-6, x[1] * 1e-9, x[2], x[3], x[4], x[5])
    return Fit(systems[0].generation, f"matmul {form}", law, error, len(m))


EXPERT_COLUMNS: Final = (
    *("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"),
    "latency",
)


def _expert_rows(columns: Columns, table_type: str, width: float, cache: float) -> NDArray[np.bool_]:
    """Rows of a format that are fitted: shapes that are served, too large for the cache."""
    chosen = (columns["moe_dtype"] == table_type) & (columns["distribution"] == "balanced")
    if not chosen.any():
        chosen = (columns["moe_dtype"] == table_type) & (columns["num_tokens"] >= columns["num_experts"])
    local, sliced = columns["num_experts"] / columns["moe_ep_size"], columns["inter_size"] / columns["moe_tp_size"]
    chosen &= (local >= 4) & (sliced >= 128) & (columns["moe_ep_size"] <= 16) & (columns["num_tokens"] <= 16_384)
    held = 3.0 * columns["hidden_size"] * sliced * local * width
    served: NDArray[np.bool_] = chosen & (held > max(CACHE_BYTES, CACHE_MARGIN * cache))
    return served


def experts(tables: Tables, systems: Sequence[System], table_type: str, release: str = "") -> Fit | None:
    """The law of grouped products in one format, over the systems of one generation.

    Tokens spread evenly are fitted, because then it is known how many experts a step touches; where a table has none,
    steps in which every expert has work.
    """
    form, width = EXPERT_FORMATS[table_type]
    parts: list[list[Array]] = []
    for system in systems:
        columns = tables.columns(system, "moe", release or system.release, "moe")
        chosen = _expert_rows(columns, table_type, width, system.cache)
        if chosen.any():
            parts.append(measured(columns, chosen, EXPERT_COLUMNS, system, form))
    if not parts:
        return None
    m, hidden, inner, used, count, tp, ep, times, bandwidth, flops = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    each = 3 * hidden * inner / tp

    def seconds(values: Array) -> Array:
        launch, reached, compute, padding, traffic, sharp = values
        routed = m * used / ep
        touched = np.minimum(count / ep, routed)
        memory = touched * each * width / (bandwidth * reached)
        arithmetic = 2 * (routed + padding * touched) * each / (flops * compute)
        time = launch * 1e-6 + (memory**sharp + arithmetic**sharp) ** (1 / sharp)
        time += traffic * 2 * routed * 2 * (hidden + inner / tp) / bandwidth
        return np.asarray(time, dtype=np.float64)

    low, high = (2, 0.1, 0.02, 0, 0, 1.5), (80, 0.95, 1, 128, 6, 6)
    x, error = _least_squares(seconds, times, (15, 0.8, 0.4, 8, 0.5, 2), low, high)
    return Fit(systems[0].generation, f"experts {form}", ExpertsLaw(x[0] * 1e-6, *x[1:]), error, len(m))


def _attention_rows(columns: Columns, cache: str) -> NDArray[np.bool_]:
    """Rows of whole attention with one type of KV cache, of head sizes and counts that are served."""
    chosen: NDArray[np.bool_] = (columns["kv_cache_dtype"] == cache) & (columns["head_dim"] == 128)
    chosen &= columns["num_heads"] >= 4
    return chosen & (columns["window_size"] == 0) if "window_size" in columns else chosen


def decode(tables: Tables, system: System, cache: str) -> Fit | None:
    """The law of decode attention with one type of KV cache."""
    columns = tables.columns(system, "attention", system.release, "generation_attention")
    chosen = _attention_rows(columns, cache) & (columns["step"] >= 63) & (columns["batch_size"] <= 1024)
    if not chosen.any():
        return None
    heads, batch, step, times = floats(columns, chosen, "num_key_value_heads", "batch_size", "step", "latency")
    context, width = step + 1, 1.0 if cache == "fp8" else 2.0
    read = batch * context * heads * 128 * 2 * width
    if system.cache:
        kept = (read > CACHE_MARGIN * system.cache) | (read < SMALL_CACHE)
        heads, batch, context, read, times = (values[kept] for values in (heads, batch, context, read, times))
    one = np.ones_like(times) * 1e-6
    memory = read / accelerator(system.product).data_bandwidth
    x, error = _non_negative([one, one * np.log2(1 + context / CHAIN_TOKENS), memory, batch * heads * 1e-9], times)
    if x[2] == 0:
        return None
    law = DecodeLaw(x[0] * 1e-6, x[1] * 1e-6, min(0.95, 1 / x[2]), x[3] * 1e-9)
    return Fit(system.generation, f"decode attention {cache}", law, error, len(times))


def prefill(tables: Tables, system: System, cache: str) -> Fit | None:
    """The law of prefill attention with one type of KV cache."""
    columns = tables.columns(system, "attention", system.release, "context_attention")
    chosen = _attention_rows(columns, cache) & (columns["isl"] >= 64)
    chosen &= columns["batch_size"] * columns["isl"] <= 70_000
    if not chosen.any():
        return None
    heads, batch, length, times = floats(columns, chosen, "num_heads", "batch_size", "isl", "latency")
    gpu = accelerator(system.product)
    moved = 2 * ACTIVATION_BYTES * batch * length * heads * 128 / gpu.data_bandwidth
    arithmetic = batch * length**2 / 2 * heads * 128 * 4 / gpu.flops_16bit
    x, error = _non_negative([np.full_like(times, 1e-6), length * 1e-9, moved, arithmetic], times)
    law = PrefillLaw(x[0] * 1e-6, x[1] * 1e-9, x[2], 1 / x[3])
    return Fit(system.generation, f"prefill attention {cache}", law, error, len(times))


def collective(tables: Tables, system: System, release: str) -> Fit:
    """The law of all-reduces as vLLM does them inside CUDA graphs. The tables count elements of 16 bits.

    (They turn into NCCL's, which vLLM takes from 8 MB, at a message size of 2^22.)
    """
    columns = tables.columns(system, "comm", release, "custom_allreduce")
    gpu = accelerator(system.product)
    graph = np.array(["graph" in str(name) for name in columns["backend" if "backend" in columns else "kernel_source"]])
    chosen = graph & (columns["message_size"] >= 2048) & (columns["message_size"] <= 2**27)
    # Without a switch more than two GPUs share the host's bridges, which no law of the link describes.
    chosen &= columns["num_gpus"] <= (8 if gpu.link_domain > 1 else 2)
    ranks, message, times = floats(columns, chosen, "num_gpus", "message_size", "latency")
    one = np.full_like(times, 1e-6)
    x, error = _non_negative([one, one * (ranks - 2), message * ACTIVATION_BYTES / gpu.link_bandwidth], times)
    law = CollectiveLaw(x[0] * 1e-6, x[1] * 1e-6, 1 / x[2])
    return Fit(system.generation, "all-reduce", law, error, len(times))


def _products(tables: Tables) -> Iterator[Fit | None]:
    """Laws of dense products and of experts, generation by generation."""
    for systems in ((H100, H200), (A100,), (L40S,), (PRO_6000,), (B300,)):
        if all(map(tables.has, systems)):
            # Blocks of fp8 are fitted where a release has kernels of its own for them.
            forms = [form for form in MATMUL_FORMATS if form != "fp8_block" or systems[0] is H100]
            yield from (matmul(tables, systems, form) for form in forms)
            left_out = "mxfp4" if systems[0] is H100 else "w4a16_mxfp4" if systems[0] is B300 else "w4a8_mxfp4"
            yield from (experts(tables, systems, form) for form in EXPERT_FORMATS if left_out not in form)
    yield from (matmul(tables, (B200,), form, NEWER if form == "fp8" else "") for form in MATMUL_FORMATS)
    yield from (experts(tables, (B200,), form, NEWER) for form in EXPERT_FORMATS if form != "w4a16_mxfp4")
    yield experts(tables, (H200,), "w4a16_mxfp4", NEWER)


def fits(tables: Tables) -> Iterator[Fit]:
    """Every law fitted to its tables, of the systems whose tables are here."""
    yield from (fit for fit in _products(tables) if fit is not None)
    for system in filter(tables.has, ATTENTION):
        for law in (decode, prefill):
            yield from (fit for cache in ("bfloat16", "fp8") if (fit := law(tables, system, cache)) is not None)
        yield from (collective(tables, system, release) for release in system.collectives or (system.release,))
