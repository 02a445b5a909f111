"""vLLM's start-up log, releases 0.7 to 0.33, read line by line.

Anything that is not understood is ignored: logs are truncated, coloured, interleaved between ranks and mixed with other
programs' lines. Wordings are those of `vllm/v1/worker/gpu_worker.py`, `gpu_model_runner.py`, `kv_cache_utils.py`,
`metrics/loggers.py`, `utils/mem_utils.py` and, before 0.10, `worker/worker.py` and `executor_base.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from plimsoll_recommender.observation.observed import StartUp

LONGEST_LINE: Final = 20_000
"""Characters of a line that are looked at: an engine's whole configuration takes about 6,000."""

RANKS_DIFFER: Final = 0.10
"""Ranks of one engine whose values differ by more than this are reported; rounding and NCCL explain less."""

SECONDS_OF_A_START: Final = ("Initializing a V1 LLM engine", "Initializing an LLM engine", "vLLM API server version")
"""Lines that begin a new start: what was logged before belongs to an earlier one."""

_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_RANK: Final = re.compile(
    r"\((?:(?:EngineCore|Engine|Worker|VllmWorker|RayWorkerWrapper|WorkerProc)[\w-]*)(?: [^)]*?)? ?(?:pid=)(\d+)[^)]*\)"
)
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_GIB = _NUMBER + r" ?Gi?B"
_COUNT = r"(\d[\d,]*)"


def _figure(text: str) -> float:
    return float(text.replace(",", ""))


def _count(text: str) -> int:
    return int(text.replace(",", ""))


def _text(text: str) -> str:
    return text


def _truth(text: str) -> bool:
    return text == "True"


PATTERNS: Final[tuple[tuple[re.Pattern[str], tuple[tuple[str, Any], ...]], ...]] = tuple(
    (re.compile(pattern), tuple(targets))
    for pattern, *targets in (
        # Weights: 0.7 to 0.33, with and without "memory".
        (rf"Model loading took {_GIB}", ("weights_gib", _figure)),
        (rf"Loading model weights took {_GIB}", ("weights_gib", _figure)),
        # The profile run: one sentence up to 0.9, another at DEBUG since.
        (rf"model weights take {_GIB}", ("weights_gib", _figure)),
        (rf"non_torch_memory takes {_GIB}", ("non_torch_gib", _figure)),
        (rf"PyTorch activation peak memory takes {_GIB}", ("activation_peak_gib", _figure)),
        (rf"the rest of the memory reserved for KV Cache is {_GIB}", ("kv_cache_gib", _figure)),
        (
            rf"total_gpu_memory \({_GIB}\) ?x gpu_memory_utilization \({_NUMBER}\) = {_GIB}",
            ("gpu_total_gib", _figure),
            ("gpu_memory_utilization", _figure),
            ("requested_gib", _figure),
        ),
        (rf"torch peak memory increase: {_GIB}", ("activation_peak_gib", _figure)),
        (rf"non-torch forward increase memory: {_GIB}", ("non_torch_gib", _figure)),
        (rf"total consumed \(from mem_get_info\): {_GIB}", ("consumed_gib", _figure)),
        (rf"; weights memory: {_GIB}", ("weights_gib", _figure)),
        # The KV cache.
        (rf"Available KV cache memory: {_GIB}", ("kv_cache_gib", _figure)),
        (rf"reserved {_GIB} memory for KV Cache as specified", ("kv_cache_gib", _figure), ("kv_cache_stated", None)),
        (rf"GPU KV cache size: {_COUNT} tokens", ("kv_cache_tokens", _count)),
        (
            rf"Maximum concurrency for {_COUNT} tokens per request: {_NUMBER}x",
            ("max_model_len", _count),
            ("max_concurrency", _figure),
        ),
        (r"# (?:GPU|CUDA|cuda) blocks: (\d+)", ("kv_cache_blocks", _count)),
        (r"num_gpu_blocks is: (\d+)", ("kv_cache_blocks", _count)),
        # With 0 overridden it is the engine itself, while it estimates graphs (0.18 and later).
        (r"Overriding num_gpu_blocks=[1-9]\d* with num_gpu_blocks_override=(\d+)", ("kv_cache_blocks", None)),
        # CUDA graphs.
        (rf"Graph capturing finished in \d+ secs?, took {_GIB}", ("cuda_graphs_gib", _figure)),
        (rf"Estimated CUDA graph memory: {_GIB}", ("cuda_graphs_estimate_gib", _figure)),
        (
            rf"CUDA graph pool memory: {_GIB} \(actual\), {_GIB} \(estimated\)",
            ("cuda_graphs_gib", _figure),
            ("cuda_graphs_estimate_gib", _figure),
        ),
        # The summary after warm-up, since 0.10.2.
        (rf"Free memory on device \({_NUMBER}/{_GIB}\)", ("", _figure), ("gpu_total_gib", _figure)),
        (
            rf"Desired GPU memory utilization is \({_NUMBER}, {_GIB}\)",
            ("gpu_memory_utilization", _figure),
            ("requested_gib", _figure),
        ),
        (rf"Actual usage is {_GIB} for weights?\b", ("weights_gib", _figure)),
        (rf"Actual usage is {_GIB} for consumed memory", ("consumed_gib", _figure)),
        (rf"{_GIB} for peak activation", ("activation_peak_gib", _figure)),
        (rf"{_GIB} for non-torch memory", ("non_torch_gib", _figure)),
        (rf"{_GIB} for CUDAGraph memory", ("cuda_graphs_gib", _figure)),
        (rf"Current kv cache memory in use is {_GIB}", ("kv_cache_gib", _figure)),
        # What the engine was told.
        (r"Initializing (?:a V1|an) LLM engine \(v?([\w.+]+)\)", ("engine_version", _text)),
        (r"vLLM API server version v?([\w.+]+)", ("engine_version", _text)),
        (r"with config: .*?\bmodel='([^']+)'", ("model", _text)),
        (r"with config: .*?\bmax_seq_len=(\d+)", ("max_model_len", _count)),
        (r"with config: .*?\btensor_parallel_size=(\d+)", ("tensor_parallel_size", _count)),
        (r"with config: .*?\bpipeline_parallel_size=(\d+)", ("pipeline_parallel_size", _count)),
        (r"with config: .*?[ ,]quantization=(\w[\w-]*)", ("quantization", _text)),
        (r"with config: .*?\bkv_cache_dtype=(\w+)", ("kv_cache_dtype", _text)),
        (r"with config: .*?\benforce_eager=(True|False)", ("enforce_eager", _truth)),
        (r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)", ("max_num_batched_tokens", _count)),
        (r"Using max model len (\d+)", ("max_model_len", _count)),
        (r"non-default args: .*?'max_num_seqs': (\d+)", ("max_num_seqs", _count)),
        (r"non-default args: .*?'max_num_batched_tokens': (\d+)", ("max_num_batched_tokens", _count)),
        (r"non-default args: .*?'gpu_memory_utilization': ([\d.]+)", ("gpu_memory_utilization", _figure)),
        (r"non-default args: .*?'tensor_parallel_size': (\d+)", ("tensor_parallel_size", _count)),
        (r"non-default args: .*?'pipeline_parallel_size': (\d+)", ("pipeline_parallel_size", _count)),
        (r"non-default args: .*?'block_size': (\d+)", ("block_size", _count)),
        (r"non-default args: .*?'model(?:_tag)?': '([^']+)'", ("model", _text)),
    )
)
"""Wordings, each with what its groups are. A target without a reader marks that the KV cache was sized by hand."""

_WORTH_READING: Final = re.compile(
    r" took |takes? \d|memory|KV Cache|KV cache size|Maximum concurrency|blocks|config: |args: |version|max model len|"
    r"batched_tokens="
)
"""One of these is in every line that a pattern matches; a served engine's log has thousands of others."""

LEAST_OF_RANKS: Final = frozenset({"kv_cache_gib", "kv_cache_blocks", "kv_cache_tokens", "max_concurrency"})
"""What the poorest rank decides; of everything else the largest counts."""

MEASURED: Final = (
    *(item.name for item in fields(StartUp) if item.name.endswith("_gib")),
    "kv_cache_tokens",
    "kv_cache_blocks",
)

MAY_BE_ZERO: Final = frozenset({"non_torch_gib", "cuda_graphs_gib", "cuda_graphs_estimate_gib", "consumed_gib"})
"""Sizes that an engine may give as zero (or, of non-torch memory, a little less)."""


@dataclass
class _Start:
    """What one start has said so far, by rank (empty for lines without one); of a field said twice, the last counts."""

    by_rank: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: bool = False
    stated: bool = False

    def take(self, rank: str, name: str, value: Any) -> None:
        self.by_rank.setdefault(rank, {})[name] = value
        self.measured = self.measured or name in MEASURED


def read_start_up(text: str | Iterable[str]) -> StartUp:
    """What a start-up log says; of a log with several starts, the last that got as far as measuring.

    Args:
        text: the log, or its lines.
    """
    lines = text.splitlines() if isinstance(text, str) else text
    done: list[_Start] = []
    start = _Start()
    for line in lines:
        plain = _COLOUR.sub("", line[:LONGEST_LINE])
        if start.measured and any(mark in plain for mark in SECONDS_OF_A_START):
            done.append(start)
            # What it was told comes before the line that begins it, or is said again.
            start = _Start()
        _read_line(start, plain)
    starts = [*done, start]
    chosen = next((item for item in reversed(starts) if item.measured), starts[-1])
    merged, contradictions = _over_ranks(chosen)
    return _checked(replace(merged, kv_cache_stated=chosen.stated), contradictions)


def _read_line(start: _Start, line: str) -> None:
    """Whatever of a line is understood."""
    if _WORTH_READING.search(line) is None:
        return
    found = None
    for pattern, targets in PATTERNS:
        match = pattern.search(line)
        if match is None:
            continue
        if found is None:
            named = _RANK.search(line)
            found = named.group(1) if named else ""
        for (name, reader), value in zip(targets, (*match.groups(), ""), strict=False):
            if reader is None:
                start.stated = True
            elif name:
                start.take(found, name, reader(value))


def _over_ranks(start: _Start) -> tuple[StartUp, list[str]]:
    """One value per field over the ranks, and where they differ more than ranks do."""
    merged: dict[str, Any] = {}
    contradictions: list[str] = []
    names = {name for said in start.by_rank.values() for name in said}
    for name in sorted(names):
        values = [said[name] for said in start.by_rank.values() if name in said]
        if not isinstance(values[0], int | float) or isinstance(values[0], bool):
            merged[name] = values[-1]
            continue
        least, most = min(values), max(values)
        merged[name] = least if name in LEAST_OF_RANKS else most
        if least != most and name in MEASURED and abs(most - least) > RANKS_DIFFER * abs(most) and most - least > 0.1:
            contradictions.append(f"ranks report {name} from {least:g} to {most:g}")
    return StartUp(**merged), contradictions


def _checked(seen: StartUp, contradictions: list[str]) -> StartUp:
    """A start without what cannot be true, and that said in words."""
    dropped: dict[str, Any] = {}
    for name in MEASURED:
        value = getattr(seen, name)
        if value is not None and value <= 0 and name not in MAY_BE_ZERO:
            contradictions.append(f"{name} is {value:g}: not possible, ignored")
            dropped[name] = None
    seen = replace(seen, **dropped)
    total, share, asked = seen.gpu_total_gib, seen.gpu_memory_utilization, seen.requested_gib
    if (
        total is not None
        and share is not None
        and asked is not None
        and abs(total * share - asked) > 0.02 + 0.01 * total
    ):
        contradictions.append(f"requested {asked:g} GiB is not {share:g} of {total:g} GiB")
    parts = [seen.weights_gib, seen.kv_cache_gib]
    if asked is not None and not seen.kv_cache_stated and sum(part or 0.0 for part in parts) > asked + 0.05:
        contradictions.append(
            f"weights {seen.weights_gib or 0:g} GiB and KV cache {seen.kv_cache_gib or 0:g} GiB are more than the "
            f"{asked:g} GiB that were requested"
        )
    if seen.max_concurrency and seen.max_model_len and seen.kv_cache_tokens:
        implied = seen.max_concurrency * seen.max_model_len
        # Releases before 0.21 count hybrid models' tokens otherwise, by up to the number of groups.
        if implied < 0.5 * seen.kv_cache_tokens / 8 or implied > 8 * 2 * seen.kv_cache_tokens:
            contradictions.append(
                f"{seen.max_concurrency:g} sequences of {seen.max_model_len:,} tokens do not fit "
                f"{seen.kv_cache_tokens:,} tokens"
            )
    return replace(seen, contradictions=tuple(contradictions))
