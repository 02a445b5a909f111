"""`LLMService.status`: what is true now, and why. Counts are integers; other numbers are decimal strings."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from plimsoll_api.v1alpha1.base import ApiModel
from plimsoll_api.v1alpha1.quantities import Decimal, Duration

HISTORY_LENGTH = 20
"""Decisions kept in `status.history`: enough to see a day's scaling, small enough for every watch event."""

# The API server prints and compares times as RFC 3339 strings; they stay strings here.
Timestamp = str


class Condition(ApiModel):
    """A Kubernetes condition (the shape of meta/v1 Condition)."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    observed_generation: int = Field(default=0, ge=0)
    last_transition_time: Timestamp = Field(json_schema_extra={"format": "date-time"})
    # meta/v1 Condition's own pattern: one CamelCase word.
    reason: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)
    message: str = Field(max_length=32_768)


class EngineConfigStatus(ApiModel):
    """The engine configuration in force."""

    accelerator: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: Decimal
    max_model_len: int
    kv_cache_dtype: str
    replicas: int = Field(description="Replicas the expected workload needs.")


class LedgerStatus(ApiModel):
    """Where every GiB of one GPU goes."""

    total_gib: Decimal
    weights_gib: Decimal
    activation_peak_gib: Decimal
    non_torch_gib: Decimal
    cuda_graphs_gib: Decimal
    kv_cache_gib: Decimal
    kv_cache_tokens: int


class PredictedStatus(ApiModel):
    """What the recommender expects of one replica at its load line, and what it carries."""

    ttft: Duration = Field(description="At the objectives' percentile.")
    tpot: Duration = Field(description="At the objectives' percentile.")
    e2e: Duration = Field(description="At the objectives' percentile.")
    load_line_requests_per_second: Decimal = Field(
        description="Request rate one replica carries while it still meets the objectives."
    )
    load_line_concurrency: Decimal = Field(description="Requests in flight on one replica at its load line.")
    output_tokens_per_second: Decimal = Field(description="Of one replica at its load line.")


class Reason(ApiModel):
    """Why one field has its value."""

    field: str
    value: str
    because: str


class Alternative(ApiModel):
    """A configuration that was considered and not chosen."""

    summary: str
    hourly_cost: Decimal | None = None
    rejected_because: str


class RecommendationStatus(ApiModel):
    """The recommendation in force and its grounds."""

    config: EngineConfigStatus
    ledger: LedgerStatus
    predicted: PredictedStatus
    reasons: list[Reason] = Field(default=[], max_length=32)
    alternatives: list[Alternative] = Field(default=[], max_length=16)
    confidence: Literal["High", "Medium", "Low"]
    input_hash: str = Field(description="Hash of everything the recommendation was computed from.")
    applied_generation: int = Field(ge=0)


class ObservedStatus(ApiModel):
    """What is measured, over the detector's window."""

    requests_per_second: Decimal | None = None
    input_tokens_mean: Decimal | None = None
    output_tokens_mean: Decimal | None = None
    running: Decimal | None = Field(default=None, description="Requests in batches, whole service.")
    waiting: Decimal | None = Field(default=None, description="Requests queued, whole service.")
    ttft: Duration | None = Field(default=None, description="At the objectives' percentile.")
    tpot: Duration | None = Field(default=None, description="At the objectives' percentile.")
    attainment: Decimal | None = Field(default=None, description="Share of requests that met the objectives (0 to 1).")
    load_line: Decimal | None = Field(default=None, description="Measured requests per second of one replica.")
    prediction_error: Decimal | None = Field(
        default=None, description="|predicted - measured| / measured TPOT, as a fraction."
    )


class DiagnosisKind(StrEnum):
    """What the detector says is happening."""

    NORMAL = "Normal"
    OVERLOAD = "Overload"
    UNDERLOAD = "Underload"
    DEGRADED = "Degraded"
    STALLED = "Stalled"
    BLIND = "Blind"


class Contribution(ApiModel):
    """One signal's part in the diagnosis."""

    signal: str
    value: str
    reference: str = Field(description="What the value was compared with.")


class DiagnosisStatus(ApiModel):
    """What the detector says is happening, since when and on what grounds."""

    kind: DiagnosisKind
    since: Timestamp
    message: str = ""
    pods: list[str] = Field(default=[], max_length=32, description="Pods it is about; empty means the service.")
    contributions: list[Contribution] = Field(default=[], max_length=16)


class DecisionStatus(ApiModel):
    """The last scaling decision and its numbers."""

    current: int
    desired: int = Field(description="What the load asks for.")
    bounded: int = Field(description="What the bounds, budget and pace allow now.")
    reason: str
    message: str = ""
    at: Timestamp


class HistoryEntry(ApiModel):
    """One change of the number of replicas."""

    at: Timestamp
    before: int
    after: int
    reason: str
    message: str = ""


class CostStatus(ApiModel):
    """What the service costs now."""

    per_hour: Decimal
    per_million_output_tokens: Decimal | None = None
    gpus: int


class LoadTestStatus(ApiModel):
    """The last recorded load test (`plimsoll load --service`)."""

    at: Timestamp
    config_map: str
    requests: int
    failed: int
    truncated: int
    attainment: Decimal
    ttft: Duration
    tpot: Duration


class LLMServiceStatus(ApiModel):
    """What is true now, and why."""

    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    observed_generation: int | None = Field(default=None, ge=0)
    replicas: int | None = Field(default=None, ge=0, description="Pods that exist.")
    ready_replicas: int | None = Field(default=None, ge=0, description="Pods that serve.")
    selector: str | None = Field(default=None, description="Label selector of the pods, for /scale.")
    url: str | None = Field(default=None, description="Where clients inside the cluster reach the service.")
    recommendation: RecommendationStatus | None = None
    observed: ObservedStatus | None = None
    diagnosis: DiagnosisStatus | None = None
    decision: DecisionStatus | None = None
    history: list[HistoryEntry] = Field(
        default=[],
        max_length=HISTORY_LENGTH,
        description="Changes of the number of replicas, newest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    cost: CostStatus | None = None
    load_test: LoadTestStatus | None = None
