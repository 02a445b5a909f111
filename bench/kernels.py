"""How well the kernel laws fit measured kernels, and the coefficients that fit best.

`python -m bench.kernels FOLDER` prints the coefficients as they are typed into `latency/calibration.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.figures import Context, Figure
from plimsoll_recommender import accelerator
from plimsoll_recommender.latency.kernels import (
    CHAIN_TOKENS,
    CollectiveLaw,
    DecodeLaw,
    ExpertsLaw,
    MatmulLaw,
    PrefillLaw,
)
from plimsoll_recommender.latency.products import flops_of

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

SYSTEMS: Final = {
    "h100_sxm": ("H100", "hopper", "0.19.0"),
    "h200_sxm": ("H200", "hopper", "0.19.0"),
    "b200_sxm": ("B200", "blackwell", "0.19.0"),
    "a100_sxm": ("A100", "ampere", "0.14.0"),
    "l40s": ("L40S", "ada", "0.22.0"),
}
"""Folder of the tables: accelerator, generation, and the release of vLLM whose tables are read."""

ATTENTION_SYSTEMS: Final = ("h100_sxm", "b200_sxm", "a100_sxm", "l40s")
"""Systems whose attention tables are read; H200's of 0.19 mixes windowed rows in without saying which."""

NEWER: Final = "0.24.0"
"""Release whose tables are read for what vLLM computed with other kernels before: Blackwell's experts, and these."""

NEW_MATMUL: Final = (("b200_sxm", "fp8"), ("l40s", "fp8"))

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

ROWS: Final = (
    1,
    2,
    4,
    8,
    16,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    512,
    768,
    1024,
    1536,
    2048,
    3072,
    4096,
    8192,
    16384,
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


def _columns(path: Path) -> Columns:
    """A table's columns as arrays."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def _floats(columns: Columns, chosen: NDArray[np.bool_], *names: str) -> list[Array]:
    """Chosen rows of columns; a latency is turned from milliseconds into seconds."""
    return [columns[name][chosen].astype(float) * (1e-3 if name == "latency" else 1.0) for name in names]


def _least_squares(
    seconds: Callable[[Array], Array],
    measured: Array,
    start: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> tuple[list[float], float]:
    """Coefficients that minimise robust squared logarithms, and the mean absolute logarithm."""
    from scipy.optimize import least_squares

    def residuals(values: Array) -> Array:
        logarithms: Array = np.log(seconds(values) / measured)
        return logarithms

    found = least_squares(
        residuals,
        start,
        bounds=(low, high),
        x_scale=np.asarray(high),
        loss="soft_l1",
        f_scale=0.15,
    )
    return [float(value) for value in found.x], float(np.mean(np.abs(residuals(found.x))))


def _non_negative(terms: Sequence[Array], measured: Array) -> tuple[list[float], float]:
    """Non-negative coefficients of terms that minimise squared relative errors, and the mean absolute logarithm."""
    from scipy.optimize import nnls

    matrix = np.stack(terms, axis=1)
    found = nnls(matrix / measured[:, None], np.ones_like(measured))[0]
    return [float(value) for value in found], float(np.mean(np.abs(np.log(matrix @ found / measured))))


def _measured(
    columns: Columns, chosen: NDArray[np.bool_], names: Sequence[str], product: str, form: str
) -> list[Array]:
    """Chosen rows of columns, and beside them the GPU's bandwidth and FLOP/s in a format."""
    found = _floats(columns, chosen, *names)
    gpu = accelerator(product)
    return [*found, *(np.full_like(found[0], rate) for rate in (gpu.memory_bandwidth, flops_of(gpu, form)))]


def matmul(tables: Path, systems: Sequence[str], table_type: str, release: str = "") -> Fit | None:
    """The law of dense products in one format, over the systems of one generation."""
    form, width = MATMUL_FORMATS[table_type]
    parts: list[list[Array]] = []
    for system in systems:
        product, generation, version = SYSTEMS[system]
        columns = _columns(tables / system / "gemm" / "vllm" / (release or version) / "gemm_perf.parquet")
        rows, outputs, inputs = columns["m"], columns["n"], columns["k"]
        chosen = (columns["gemm_dtype"] == table_type) & np.isin(rows, ROWS)
        chosen &= (outputs >= 256) & (outputs <= 33_000) & (inputs >= 512) & (outputs * inputs >= 2**20)
        if chosen.any():
            parts.append(_measured(columns, chosen, ("m", "n", "k", "latency"), product, form))
    if not parts:
        return None
    m, n, k, measured, bandwidth, flops = (np.concatenate(column) for column in zip(*parts, strict=True))

    def seconds(values: Array) -> Array:
        launch, per_input, reached, compute, traffic, sharp = values
        memory = n * k * width / (bandwidth * reached)
        arithmetic = 2 * m * n * k / (flops * compute)
        time = launch * 1e-6 + per_input * 1e-9 * k + (memory**sharp + arithmetic**sharp) ** (1 / sharp)
        time += traffic * 2 * m * (n + k) / bandwidth
        return np.asarray(time, dtype=np.float64)

    x, error = _least_squares(
        seconds,
        measured,
        (3, 0.5, 0.8, 0.6, 0.5, 3),
        (0, 0, 0.1, 0.1, 0, 1.5),
        (20, 5, 0.95, 1, 20, 8),
    )
    law = MatmulLaw(x[0] * 1e-6, x[1] * 1e-9, x[2], x[3], x[4], x[5])
    return Fit(generation, f"matmul {form}", law, error, len(m))


EXPERT_COLUMNS: Final = (
    *("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"),
    "latency",
)


def _expert_rows(columns: Columns, table_type: str, width: float) -> NDArray[np.bool_]:
    """Rows of a format that are fitted: shapes that are served, too large for the cache."""
    chosen = (columns["moe_dtype"] == table_type) & (columns["distribution"] == "balanced")
    if not chosen.any():
        chosen = (columns["moe_dtype"] == table_type) & (columns["num_tokens"] >= columns["num_experts"])
    local, sliced = columns["num_experts"] / columns["moe_ep_size"], columns["inter_size"] / columns["moe_tp_size"]
    chosen &= (local >= 4) & (sliced >= 128) & (columns["moe_ep_size"] <= 16) & (columns["num_tokens"] <= 16_384)
    served: NDArray[np.bool_] = chosen & (3.0 * columns["hidden_size"] * sliced * local * width > CACHE_BYTES)
    return served


def experts(tables: Path, systems: Sequence[str], table_type: str, release: str = "") -> Fit | None:
    """The law of grouped products in one format, over the systems of one generation.

    Tokens spread evenly are fitted, because then it is known how many experts a step touches; where a table has none,
    steps in which every expert has work.
    """
    form, width = EXPERT_FORMATS[table_type]
    parts: list[list[Array]] = []
    for system in systems:
        product, generation, version = SYSTEMS[system]
        columns = _columns(tables / system / "moe" / "vllm" / (release or version) / "moe_perf.parquet")
        chosen = _expert_rows(columns, table_type, width)
        if chosen.any():
            parts.append(_measured(columns, chosen, EXPERT_COLUMNS, product, form))
    if not parts:
        return None
    m, hidden, inner, used, count, tp, ep, measured, bandwidth, flops = (
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

    x, error = _least_squares(
        seconds,
        measured,
        (15, 0.8, 0.4, 8, 0.5, 2),
        (2, 0.1, 0.02, 0, 0, 1.5),
        (80, 0.95, 1, 128, 6, 6),
    )
    law = ExpertsLaw(x[0] * 1e-6, *x[1:])
    return Fit(generation, f"experts {form}", law, error, len(m))


def decode(tables: Path, system: str, cache: str) -> Fit | None:
    """The law of decode attention with one type of KV cache."""
    product, generation, version = SYSTEMS[system]
    columns = _columns(tables / system / "attention" / "vllm" / version / "generation_attention_perf.parquet")
    chosen = (columns["kv_cache_dtype"] == cache) & (columns["step"] >= 63) & (columns["batch_size"] <= 1024)
    chosen &= (columns["head_dim"] == 128) & (columns["num_heads"] >= 4)
    if "window_size" in columns:
        chosen &= columns["window_size"] == 0
    # Caches that stay in the second-level cache are left out where there is anything else.
    if not chosen.any():
        return None
    heads, batch, step, measured = _floats(columns, chosen, "num_key_value_heads", "batch_size", "step", "latency")
    context, width = step + 1, 1.0 if cache == "fp8" else 2.0
    bandwidth = accelerator(product).memory_bandwidth
    read = batch * context * heads * 128 * 2 * width / bandwidth
    one = np.ones_like(measured) * 1e-6
    x, error = _non_negative(
        [one, one * np.log2(1 + context / CHAIN_TOKENS), read, batch * heads * 1e-9],
        measured,
    )
    if x[2] == 0:
        return None
    law = DecodeLaw(x[0] * 1e-6, x[1] * 1e-6, min(0.95, 1 / x[2]), x[3] * 1e-9)
    return Fit(generation, f"decode attention {cache}", law, error, len(measured))


def prefill(tables: Path, system: str, cache: str) -> Fit | None:
    """The law of prefill attention with one type of KV cache."""
    product, generation, version = SYSTEMS[system]
    columns = _columns(tables / system / "attention" / "vllm" / version / "context_attention_perf.parquet")
    chosen = (columns["kv_cache_dtype"] == cache) & (columns["isl"] >= 64) & (columns["head_dim"] == 128)
    chosen &= (columns["num_heads"] >= 4) & (columns["batch_size"] * columns["isl"] <= 70_000)
    if "window_size" in columns:
        chosen &= columns["window_size"] == 0
    if not chosen.any():
        return None
    heads, batch, length, measured = _floats(columns, chosen, "num_heads", "batch_size", "isl", "latency")
    gpu = accelerator(product)
    moved = 2 * ACTIVATION * batch * length * heads * 128 / gpu.memory_bandwidth
    arithmetic = batch * length**2 / 2 * heads * 128 * 4 / gpu.flops_16bit
    x, error = _non_negative([np.full_like(measured, 1e-6), length * 1e-9, moved, arithmetic], measured)
    law = PrefillLaw(x[0] * 1e-6, x[1] * 1e-9, x[2], 1 / x[3])
    return Fit(generation, f"prefill attention {cache}", law, error, len(measured))


ACTIVATION: Final = 2.0
"""Bytes of an activation."""


def collective(tables: Path, system: str) -> Fit:
    """The law of all-reduces as vLLM does them inside CUDA graphs."""
    product, generation, version = SYSTEMS[system]
    columns = _columns(tables / system / "comm" / "vllm" / version / "custom_allreduce_perf.parquet")
    gpu = accelerator(product)
    graph = np.array(["graph" in str(name) for name in columns["backend" if "backend" in columns else "kernel_source"]])
    chosen = graph & (columns["message_size"] >= 2048) & (columns["message_size"] <= 2**27)
    # Without a switch more than two GPUs share the host's bridges, which no law of the link describes.
    chosen &= columns["num_gpus"] <= (8 if gpu.link_domain > 1 else 2)
    ranks, message, measured = _floats(columns, chosen, "num_gpus", "message_size", "latency")
    one = np.full_like(measured, 1e-6)
    terms = [one, one * (ranks - 2), message / gpu.link_bandwidth]
    x, error = _non_negative(terms, measured)
    return Fit(
        generation,
        "all-reduce",
        CollectiveLaw(x[0] * 1e-6, x[1] * 1e-6, 1 / x[2]),
        error,
        len(measured),
    )


def fits(tables: Path) -> Iterator[Fit]:
    """Every law fitted to its tables."""
    found: list[Fit | None] = []
    for systems in (("h100_sxm", "h200_sxm"), ("b200_sxm",), ("a100_sxm",), ("l40s",)):
        found += [matmul(tables, systems, name) for name in MATMUL_FORMATS if (systems[0], name) not in NEW_MATMUL]
        if systems[0] != "b200_sxm":
            found += [experts(tables, systems, name) for name in EXPERT_FORMATS if "mxfp4" not in name]
    found += [matmul(tables, (system,), name, NEWER) for system, name in NEW_MATMUL]
    found += [experts(tables, ("b200_sxm",), name, NEWER) for name in EXPERT_FORMATS if name != "w4a16_mxfp4"]
    found += [experts(tables, ("h200_sxm",), "w4a16_mxfp4", NEWER)]
    for system in ATTENTION_SYSTEMS:
        found += [law(tables, system, cache) for law in (decode, prefill) for cache in ("bfloat16", "fp8")]
    found += [collective(tables, system) for system in ATTENTION_SYSTEMS]
    yield from (fit for fit in found if fit is not None)


def run(context: Context) -> list[Figure]:
    """Mean absolute error of every family, fitted anew."""
    if context.data is None:
        context.skipped.append("kernel laws: give --data")
        return []
    grouped: dict[str, list[Fit]] = {}
    for fit in fits(context.data / "perf" / "kernel_tables"):
        grouped.setdefault(fit.family, []).append(fit)
    return [
        Figure(
            f"{family}, law against measured kernels, mean error",
            100 * float(np.mean([fit.error for fit in found])),
            "%",
            None,
            "<=",
            ", ".join(f"{fit.generation} {100 * fit.error:.0f} % of {fit.rows}" for fit in found),
        )
        for family, found in grouped.items()
    ]


if __name__ == "__main__":
    for fit in fits(Path(sys.argv[1]) / "perf" / "kernel_tables"):
        sys.stdout.write(f"{fit.generation:10} {fit.family:26} {100 * fit.error:4.1f} % of {fit.rows:6}: {fit.law}\n")
