"""What is asked of the recommender and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from plimsoll_recommender.engine_config import KV_CACHE_DTYPES, EngineConfig, ResolvedConfig, version_of
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.prediction import Prediction

if TYPE_CHECKING:
    from plimsoll_recommender.catalogue.accelerators import Accelerator
    from plimsoll_recommender.facts.model import ModelFacts
    from plimsoll_recommender.memory.ledger import MemoryLedger

Confidence = Literal["High", "Medium", "Low"]

PINNED_FIELDS: Final = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "max_model_len",
    "kv_cache_dtype",
)
"""Fields of `Limits` that are engine settings, obeyed as given."""

MOST_RANKS: Final = 64
"""Most GPUs that a limit may ask for in one direction (tensor, pipeline); no published deployment has more."""


@dataclass(frozen=True)
class Variant:
    """A quantised version of the model that may be run instead of it. How accurate it is, is for the user to judge.

    Args:
        name: how it is called: a hub id, or the model's name with a quantisation.
        facts: the facts of a checkpoint of its own; None when the model's own checkpoint is loaded.
        quantization: quantisation done while loading (`fp8`); None when the checkpoint is stored that way.

    Raises:
        RecommenderError: neither a checkpoint nor a quantisation, or no name.
    """

    name: str
    facts: ModelFacts | None = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise RecommenderError("variants: a variant has no name: give the checkpoint's, or the quantisation's")
        if self.facts is None and self.quantization is None:
            raise RecommenderError(
                f"variants: {self.name} changes nothing: give the facts of its checkpoint, or a load-time quantization "
                "such as fp8"
            )


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
        utilization_ceiling: most that is chosen for gpu_memory_utilization, by accelerator product.
        sequences_ceiling: most that is chosen for max_num_seqs, by accelerator product.
        headroom: share of the load line kept free for what the prediction cannot see (0 to below 1).
        engine_version: release of the engine that will run.
        allow_kv_cache_dtypes: KV cache types that may be chosen beside the model's own, such as `fp8`; used only where
            the GPU computes in them.
        variants: quantised versions that may be chosen instead of the model.
        allow_expert_parallel: whether a mixture of experts may place whole experts on GPUs (`expert_parallel`), also
            with several data-parallel ranks that share them in one replica (`data_parallel_size`): off because not
            every launcher starts such replicas.
        mix_accelerators: whether the fleet may be of several kinds of accelerator.
        max_kinds: most kinds of accelerator in one fleet when they may be mixed.

    Raises:
        RecommenderError: bounds that exclude everything, a negative number, or a setting that no engine takes.
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
    utilization_ceiling: Mapping[str, float] = field(default_factory=dict)
    sequences_ceiling: Mapping[str, int] = field(default_factory=dict)
    headroom: float = 0.2
    engine_version: str | None = None
    allow_kv_cache_dtypes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    allow_expert_parallel: bool = False
    mix_accelerators: bool = False
    max_kinds: int = 2

    def __post_init__(self) -> None:
        # The engine's own rules for single settings.
        EngineConfig(**{name: value for name, value in self.pinned().items() if name != "kv_cache_dtype"})  # type: ignore[arg-type]
        if self.engine_version is not None:
            version_of(self.engine_version)
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            value = getattr(self, name)
            if value is not None and value > MOST_RANKS:
                raise RecommenderError(f"{name} must be at most {MOST_RANKS}, got {value}: lower it")
        self._check_bounds()
        self._check_by_product()
        self._check_choices()

    def _check_bounds(self) -> None:
        _whole("min_replicas", self.min_replicas, 0)
        if self.max_replicas is not None:
            _whole("max_replicas", self.max_replicas, 1)
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise RecommenderError(
                f"max_replicas ({self.max_replicas}) must not be less than min_replicas ({self.min_replicas}): raise it"
            )
        if self.budget_per_hour is not None and not _positive(self.budget_per_hour):
            raise RecommenderError(
                f"budget_per_hour must be above zero, got {self.budget_per_hour!r}: give it in the currency of the "
                "prices, or leave it out"
            )
        if not (_number(self.headroom) and 0 <= self.headroom < 1):
            raise RecommenderError(
                f"headroom must be at least 0 and below 1, got {self.headroom!r}: 0.2 keeps a fifth free"
            )
        _whole("max_kinds", self.max_kinds, 1)

    def _check_by_product(self) -> None:
        for name, least in (("gpus_per_node", 1), ("max_gpus", 0), ("sequences_ceiling", 1)):
            for product, count in getattr(self, name).items():
                _whole(f"{name} of {product}", count, least)
        for product, price in self.hourly_cost.items():
            if not (_number(price) and math.isfinite(price) and price >= 0):
                raise RecommenderError(
                    f"hourly_cost of {product} must not be negative, got {price!r}: give the price of one GPU-hour"
                )
        for product, share in self.utilization_ceiling.items():
            if not (_positive(share) and share <= 1):
                raise RecommenderError(
                    f"utilization_ceiling of {product} must be above 0 and at most 1, got {share!r}: 0.9 is nine tenths"
                )

    def _check_choices(self) -> None:
        for dtype in (*self.allow_kv_cache_dtypes, *((self.kv_cache_dtype,) if self.kv_cache_dtype else ())):
            if dtype not in KV_CACHE_DTYPES:
                raise RecommenderError(
                    f"kv_cache_dtype {dtype!r} is not known: use one of {', '.join(KV_CACHE_DTYPES)}"
                )
        names = [variant.name for variant in self.variants]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise RecommenderError(f"variants: {repeated} is named twice: give every variant a name of its own")

    def pinned(self) -> dict[str, int | float | str]:
        """The engine settings that are fixed, by field name."""
        return {name: getattr(self, name) for name in PINNED_FIELDS if getattr(self, name) is not None}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _positive(value: Any) -> bool:
    return _number(value) and math.isfinite(value) and value > 0


def _whole(field_name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise RecommenderError(f"{field_name} must be a whole number of at least {least}, got {value!r}")


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
        accelerator: the GPU it would run on.
        config: its engine settings; None when it could not be sized.
        replicas, gpus: size of the fleet; 0 when it could not be sized.
        load_line_rps: most requests/s that one replica carries within the objectives.
        ttft, tpot, e2e: seconds at the objectives' percentile under the expected load (at the load line when no load
            was stated); None when it could not be sized.
        on_frontier: whether nothing considered is both cheaper and faster (lower E2E under the expected load).
        variant: the variant it would run; empty for the model itself.
    """

    summary: str
    hourly_cost: float | None
    rejected_because: str
    accelerator: Accelerator | None = None
    config: ResolvedConfig | None = None
    replicas: int = 0
    gpus: int = 0
    load_line_rps: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    on_frontier: bool = False
    variant: str = ""


@dataclass(frozen=True)
class FleetMember:
    """The replicas of a fleet that are alike.

    Args:
        accelerator: the GPU they run on.
        config: their engine settings.
        replicas: how many there are.
        weight: share of the requests to route to them (0 to 1; the members' weights sum to 1), in proportion to what
            they carry.
        load_line_rps: most requests/s that one of them carries within the objectives.
        load_line_concurrency: requests in flight on one of them at its load line.
        ledger: memory of the GPU that limits one of them.
        predicted: latency and throughput of one of them at its load line.
        hourly_cost: of all of them.
        variant: the variant they run; empty for the model itself.
    """

    accelerator: Accelerator
    config: ResolvedConfig
    replicas: int
    weight: float
    load_line_rps: float
    load_line_concurrency: float
    ledger: MemoryLedger
    predicted: Prediction
    hourly_cost: float
    variant: str = ""

    @property
    def gpus(self) -> int:
        """GPUs of all of them."""
        return self.replicas * self.config.gpus


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
        facts: the model or variant that is run.
        variant: name of the variant that is run; empty for the model itself.
        fleet: all kinds of replicas with their routing weights, the one that carries most first; what is stated above
            is of the first. One entry unless accelerators may be mixed.
        ttft, tpot, e2e: seconds at the objectives' percentile under the expected load, evenly spread over the replicas
            (at the load line when no load was stated); `predicted` is at the load line.
        pareto: the choice and the alternatives that nothing is both cheaper and faster than, the cheapest first.
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
    facts: ModelFacts | None = None
    variant: str = ""
    fleet: tuple[FleetMember, ...] = ()
    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    pareto: tuple[Alternative, ...] = ()
