"""Published start-ups of vLLM, and our ledger of each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from plimsoll_recommender import EngineConfig, MemoryLedger, ModelFacts, accelerator, memory_ledger
from plimsoll_recommender.memory import budget
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.weights import stage_layers


@dataclass(frozen=True)
class StartUp:
    """One start of vLLM on an H100; quantities in GiB per GPU as logged."""

    facts: ModelFacts
    config: EngineConfig
    total: float
    weights: float
    activation: float
    non_torch: float
    kv: float
    blocks: int

    @property
    def parts(self) -> budget.ActivationParts:
        """What the activation peak of the last stage is made of."""
        settings = resolve(self.config, self.facts, accelerator("H100"))
        loaded = self.facts.as_loaded(settings.dtype, settings.quantization)
        stages = settings.pipeline_parallel_size
        return budget.activation_parts(loaded, stage_layers(loaded, stages, stages - 1), settings, True)

    def ledger(
        self,
        *,
        measured_weights: bool = True,
        total: float | None = None,
        coefficients: budget.Coefficients = budget.CALIBRATED,
    ) -> MemoryLedger:
        """Our ledger of the same start."""
        return memory_ledger(
            self.facts,
            accelerator("H100"),
            self.config,
            weights_gib=self.weights if measured_weights else None,
            gpu_total_gib=total or self.total,
            coefficients=coefficients,
        )


def read_start_ups(data: Path) -> list[StartUp]:
    """Every published start."""
    with (data / "kv_startup" / "vllm_startup_memory_h100.csv").open(encoding="utf-8") as stream:
        return [_start_up(row) for row in csv.DictReader(stream)]


def engine_config(row: dict[str, str]) -> EngineConfig:
    """The engine's settings at a published start."""
    return EngineConfig(
        tensor_parallel_size=int(row["tp"]),
        pipeline_parallel_size=int(row["pp"]),
        gpu_memory_utilization=float(row["gpu_memory_utilization"]),
        max_model_len=int(row["max_model_len"]),
        dtype=row["dtype"],
        # What the checkpoint stores is in its config; only `fp8` was done while loading.
        quantization="fp8" if row["quantization"] == "fp8" else None,
        kv_cache_dtype=row["kv_cache_dtype"],
        max_num_batched_tokens=int(row["max_num_batched_tokens"]),
        max_num_seqs=int(row["max_num_seqs"]),
        engine_version=row["vllm_version"],
    )


def _start_up(row: dict[str, str]) -> StartUp:
    return StartUp(
        facts=ModelFacts.load(row["model"]),
        config=engine_config(row),
        total=float(row["gpu_total_gib"]),
        weights=float(row["weights_gib_per_gpu"]),
        activation=float(row["activation_peak_gib"]),
        non_torch=float(row["non_torch_gib"]),
        kv=float(row["available_kv_gib"]),
        blocks=int(row["kv_cache_blocks"]),
    )
