"""What is asked of the recommender and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.prediction import Prediction

if TYPE_CHECKING:
    from plimsoll_recommender.catalogue.accelerators import Accelerator
    from plimsoll_recommender.memory.ledger import MemoryLedger

Confidence = Literal["High", "Medium", "Low"]


@dataclass(frozen=True)
class Limits:
    """What a recommendation may not change or exceed. None leaves a field free.

    Args:
        tensor_parallel_size, pipeline_parallel_size, max_num_seqs, max_num_batched_tokens, gpu_memory_utilization,
            max_model_len, kv_cache_dtype: engine settings that are obeyed as given.
        min_replicas, max_replicas: bounds of the replica count.
        budget_per_hour: most that the fleet may cost per hour.
        gpus_per_node: GPUs of the largest node, by accelerator product; 8 where absent.
        max_gpus: most GPUs that may be used, by accelerator product.
        hourly_cost: price of one GPU-hour, by accelerator product; the catalogue's list price where absent.
        headroom: share of the load line kept free for what the prediction cannot see (0 to below 1).
        engine_version: release of the engine that will run.

    Raises:
        RecommenderError: bounds that exclude everything, or a negative number.
    """

    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    kv_cache_dtype: str | None = None
    min_replicas: int = 1
    max_replicas: int | None = None
    budget_per_hour: float | None = None
    gpus_per_node: Mapping[str, int] = field(default_factory=dict)
    max_gpus: Mapping[str, int] = field(default_factory=dict)
    hourly_cost: Mapping[str, float] = field(default_factory=dict)
    headroom: float = 0.2
    engine_version: str | None = None

    def __post_init__(self) -> None:
        if self.min_replicas < 0:
            raise RecommenderError(f"min_replicas must not be negative, got {self.min_replicas}")
        if self.max_replicas is not None and self.max_replicas < max(1, self.min_replicas):
            raise RecommenderError(
                f"max_replicas ({self.max_replicas}) must be at least 1 and not less than min_replicas "
                f"({self.min_replicas})"
            )
        if self.budget_per_hour is not None and not (math.isfinite(self.budget_per_hour) and self.budget_per_hour > 0):
            raise RecommenderError(f"budget_per_hour must be above zero, got {self.budget_per_hour:g}")
        if not 0 <= self.headroom < 1:
            raise RecommenderError(f"headroom must be at least 0 and below 1, got {self.headroom:g}")
        for name in ("gpus_per_node", "max_gpus", "hourly_cost"):
            for product, value in getattr(self, name).items():
                if not (math.isfinite(value) and (value > 0 or (name == "hourly_cost" and value == 0))):
                    raise RecommenderError(f"{name} of {product} must be above zero, got {value:g}")

    def pinned(self) -> dict[str, int | float | str]:
        """The engine settings that are fixed, by field name."""
        return {
            item.name: getattr(self, item.name) for item in fields(self)[:7] if getattr(self, item.name) is not None
        }


@dataclass(frozen=True)
class FieldReason:
    """Why one field has its value.

    Args:
        field: the field, as `EngineConfig` names it (or `accelerator`, `replicas`).
        value: its value, as text.
        because: the binding constraint with its numbers.
        rejected: neighbouring values, each with why it lost.
    """

    field: str
    value: str
    because: str
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alternative:
    """A configuration that was considered and not chosen.

    Args:
        summary: accelerator, parallelism and replicas in one line.
        hourly_cost: price per hour of the fleet; None when it could not be sized.
        rejected_because: why it lost, with numbers.
    """

    summary: str
    hourly_cost: float | None
    rejected_because: str


@dataclass(frozen=True)
class Cost:
    """What the recommended fleet costs.

    Args:
        per_hour: price of all GPUs, in the currency of the prices.
        per_million_output_tokens: at the expected rate, or at the load line when none is given.
        gpus: number of GPUs.
    """

    per_hour: float
    per_million_output_tokens: float | None
    gpus: int


@dataclass(frozen=True)
class Recommendation:
    """The configuration to run, and why.

    Args:
        accelerator: the GPU it runs on.
        config: engine settings, all of them stated.
        replicas: copies that the expected load needs (with headroom).
        ledger: where every GiB of a GPU goes.
        predicted: latency and throughput of one replica at `predicted_at` requests/s.
        predicted_at: the request rate of one replica that `predicted` holds for: its load line.
        load_line_rps: most requests/s that one replica carries within the objectives, headroom kept.
        load_line_concurrency: requests in flight on one replica at its load line.
        reasons: one per field.
        alternatives: what was considered and not chosen, the nearest first.
        cost: of the fleet.
        confidence: how well the facts behind it are calibrated.
        confidence_why: the reason of the confidence.
    """

    accelerator: Accelerator
    config: ResolvedConfig
    replicas: int
    ledger: MemoryLedger
    predicted: Prediction
    predicted_at: float
    load_line_rps: float
    load_line_concurrency: float
    reasons: tuple[FieldReason, ...]
    alternatives: tuple[Alternative, ...]
    cost: Cost
    confidence: Confidence
    confidence_why: str
