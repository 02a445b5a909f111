"""An observation of an engine: its start-up log or its metrics, held against what was predicted for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import KV_CACHE_DTYPES, EngineConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.facts.quantization import LOAD_TIME_BITS
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.observation.apply import corrected_ledger, workload_of_rank
from plimsoll_recommender.observation.corrections import Corrections, Record, key_of, release_of
from plimsoll_recommender.observation.memory_evidence import memory_evidence
from plimsoll_recommender.observation.metrics import (
    Exposition,
    capacity_of,
    named,
    operation_of,
    samples,
    samples_of,
)
from plimsoll_recommender.observation.observed import Evidence, Observation, Operation, StartUp
from plimsoll_recommender.observation.quantities import Key
from plimsoll_recommender.observation.startup_log import read_start_up
from plimsoll_recommender.observation.step_evidence import step_evidence
from plimsoll_recommender.traffic import Workload

Source = str | Iterable[str] | Mapping[str, object]
"""Text of a log or of /metrics (or both), its lines, or metrics by name."""

T = TypeVar("T", StartUp, Operation)

TOLD: Final = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "enforce_eager",
)
"""Settings that an engine states of itself as `EngineConfig` has them."""


def observe(
    log_or_metrics: Source,
    *,
    facts: ModelFacts | None = None,
    gpu: Accelerator | None = None,
    config: EngineConfig | None = None,
    workload: Workload | None = None,
    since: Source | None = None,
    percentile: float | None = None,
    replicas: float = 1,
) -> Observation:
    """What an engine reports, held against the prediction for it.

    Args:
        log_or_metrics: vLLM's start-up log, its /metrics text, both in one text, or a mapping of metrics by vLLM's
            names or plain ones (`ttft`, `tpot` in seconds, `input_tokens`, `running`, `kv_cache_tokens` ...).
        facts: the model; when None, the one that the log names.
        gpu: the accelerator, which vLLM does not name.
        config: engine settings; what the engine states of itself comes first, and differences are reported.
        workload: the traffic of one engine during the measurements; when None, what the metrics say of it.
        since: earlier metrics of the same process: counters then cover the time between.
        percentile: the percentile that a mapping's `ttft` and `tpot` are at; None for means.
        replicas: engines that running, waiting and requests per second are summed over (a whole service's).

    Raises:
        RecommenderError: nothing of vLLM's is found, or the model or GPU is not known.
    """
    start_up, operation = _read(log_or_metrics, since)
    if percentile is not None:
        operation = replace(operation, percentile=percentile)
    operation = _of_one(operation, replicas)
    if start_up == StartUp() and operation == Operation(percentile=operation.percentile):
        raise RecommenderError("nothing of vLLM is in what was given: give its start-up log or the text of /metrics")
    model, accelerator = _identified(facts, gpu, start_up)
    settings, differences = _settings(config, start_up, model)
    said = [*start_up.contradictions, *differences]
    memory, impossible = memory_evidence(start_up, model, accelerator, settings)
    key = key_of(model.name, accelerator.product, settings)
    traffic = workload or _traffic(operation)
    times, unexplained = _times(key, model, accelerator, settings, traffic, operation, memory)
    return Observation(
        key=key,
        facts=model,
        gpu=accelerator,
        config=settings,
        start_up=start_up,
        operation=operation,
        workload=traffic,
        evidence=(*memory, *times),
        contradictions=(*said, *impossible, *unexplained),
    )


def _read(source: Source, since: Source | None) -> tuple[StartUp, Operation]:
    earlier = None if since is None else _exposition(since)
    seen = _exposition(source).since(earlier)
    capacity, ran = capacity_of(seen), operation_of(seen)
    if isinstance(source, Mapping):
        plain, plain_ran = named(source)
        return _filled(plain, capacity), _filled(plain_ran, ran)
    return _filled(read_start_up(_text(source)), capacity), ran


def _of_one(seen: Operation, replicas: float) -> Operation:
    """What one of several equal engines has of a whole service's counts."""
    if not replicas >= 1:
        raise RecommenderError(
            f"replicas must be at least 1, got {replicas:g}: the engines that counts are summed over"
        )
    counts = {name: getattr(seen, name) for name in ("running", "waiting", "requests_per_second")}
    return replace(seen, **{name: value / replicas for name, value in counts.items() if value is not None})


def _exposition(source: Source) -> Exposition:
    return Exposition.of(samples_of(source) if isinstance(source, Mapping) else samples(_text(source)))


def _text(source: str | Iterable[str]) -> str:
    return source if isinstance(source, str) else "\n".join(source)


def _filled(first: T, second: T) -> T:
    """The first, with what it does not know from the second."""
    missing = {
        field.name: getattr(second, field.name)
        for field in fields(first)
        if getattr(first, field.name) in (None, False, ())
    }
    return replace(first, **missing)


def _identified(facts: ModelFacts | None, gpu: Accelerator | None, seen: StartUp) -> tuple[ModelFacts, Accelerator]:
    if gpu is None:
        raise RecommenderError("the GPU is not named by what vLLM reports: name it, such as NVIDIA-H100-80GB-HBM3")
    if facts is not None:
        return facts, gpu
    if seen.model is None:
        raise RecommenderError("the model is not named in what was given: name it, such as Qwen/Qwen3-32B")
    return ModelFacts.load(seen.model), gpu


def _settings(config: EngineConfig | None, seen: StartUp, facts: ModelFacts) -> tuple[EngineConfig, list[str]]:
    """(settings with the engine's own statements, where they differ from what was given)."""
    given = config or EngineConfig()
    values: dict[str, Any] = {name: getattr(seen, name) for name in TOLD if getattr(seen, name) is not None}
    if seen.kv_cache_dtype in KV_CACHE_DTYPES and seen.kv_cache_dtype != "auto":
        values["kv_cache_dtype"] = seen.kv_cache_dtype
    if seen.quantization in LOAD_TIME_BITS and facts.quantization is None:
        values["quantization"] = seen.quantization
    if seen.engine_version is not None:
        with contextlib.suppress(RecommenderError):
            values["engine_version"] = release_of(seen.engine_version)
    stated = {} if config is None else {name: getattr(given, name) for name in values}
    differences = [
        f"{name} is {values[name]} in the engine and {was} in the configuration given"
        for name, was in stated.items()
        if was is not None and (release_of(was) if name == "engine_version" else was) != values[name]
    ]
    tokens = values.get("max_num_batched_tokens", given.max_num_batched_tokens)
    sequences = values.get("max_num_seqs", given.max_num_seqs)
    if tokens is not None and sequences is not None and tokens < sequences:
        values["max_num_seqs"] = tokens  # as the engine bounds it
    return replace(given, **values), differences


def _traffic(seen: Operation) -> Workload | None:
    """The traffic that the metrics were taken under, of one engine; None when they do not say."""
    if not seen.input_tokens or not seen.output_tokens:
        return None
    held = (seen.running or 0.0) + (seen.waiting or 0.0)
    if seen.requests_per_second is None and held < 0.5:
        return None
    return Workload(
        seen.input_tokens,
        max(1.0, seen.output_tokens),
        requests_per_second=seen.requests_per_second,
        concurrency=held if seen.requests_per_second is None else None,
        prefix_hit_ratio=seen.prefix_hit_ratio or 0.0,
    )


def _times(
    key: Key,
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    workload: Workload | None,
    seen: Operation,
    memory: list[Evidence],
) -> tuple[list[Evidence], list[str]]:
    """(evidence of step times, why there is none)."""
    if seen.ttft is None and seen.tpot is None:
        return [], []
    if workload is None:
        return [], ["TTFT and TPOT are known, the traffic is not: give the workload they were measured under"]
    share = workload_of_rank(workload, config.data_parallel_size)
    known = Corrections(tuple(Record(key, item.quantity, item.value, item.noise, item.load) for item in memory))
    try:
        ledger = corrected_ledger(facts, gpu, config, known)
        replica = Replica.of(facts, gpu, config, share, ledger=ledger)
    except RecommenderError as error:
        return [], [f"the engine ran, and is predicted not to: {error}"]
    return step_evidence(replica, share, seen)
