"""`LLMService.status`: what is true now, and why. Counts are integers; other numbers are decimal strings."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from plimsoll_api.v1alpha1.base import ApiModel
from plimsoll_api.v1alpha1.quantities import Decimal, Duration

HISTORY_LENGTH = 20
"""Decisions kept in `status.history`: enough to see a day's scaling, small enough for every watch event."""

MEMORY_STEPS_KEPT = 8
"""Combinations of model, GPU and image whose steps are kept in `status.memorySteps`: a few changes there and back."""

# The API server prints and compares times as RFC 3339 strings; they stay strings here.
Timestamp = str


class Condition(ApiModel):
    """A Kubernetes condition (the shape of meta/v1 Condition)."""

    type: str = Field(max_length=316, description="What it is about, such as Available.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that it speaks of.")
    last_transition_time: Timestamp = Field(
        description="When `status` last changed.", json_schema_extra={"format": "date-time"}
    )
    # meta/v1 Condition's own pattern: one CamelCase word.
    reason: str = Field(
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        max_length=1024,
        description="Why, in one word for programs.",
    )
    message: str = Field(max_length=32_768, description="Why, with the numbers, for people.")


class EngineConfigStatus(ApiModel):
    """The engine configuration in force."""

    accelerator: str = Field(description="GPU product that it runs on.")
    tensor_parallel_size: int = Field(description="GPUs each layer is split over.")
    pipeline_parallel_size: int = Field(description="Stages the layers are split into.")
    max_num_seqs: int = Field(description="Most sequences in one batch.")
    max_num_batched_tokens: int = Field(description="Most tokens in one step.")
    gpu_memory_utilization: Decimal = Field(description="Share of GPU memory that the engine takes.")
    max_model_len: int = Field(description="Longest prompt plus output, in tokens.")
    kv_cache_dtype: str = Field(description="Storage type of the KV cache.")
    replicas: int = Field(description="Replicas the expected workload needs.")


class LedgerStatus(ApiModel):
    """Where every GiB of one GPU goes."""

    total_gib: Decimal = Field(description="Memory of one GPU.")
    weights_gib: Decimal = Field(description="Weights on one GPU.")
    activation_peak_gib: Decimal = Field(description="Activations of the largest step.")
    non_torch_gib: Decimal = Field(
        description="What lives outside the framework: driver context, communication buffers."
    )
    cuda_graphs_gib: Decimal = Field(description="Captured CUDA graphs.")
    kv_cache_gib: Decimal = Field(description="What is left for the KV cache.")
    kv_cache_tokens: int = Field(description="Tokens that the KV cache of one replica holds.")


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
    input_tokens_mean: Decimal | None = Field(
        default=None, description="Mean prompt length that the load line is of, in tokens."
    )


class Reason(ApiModel):
    """Why one field has its value."""

    field: str = Field(description="Field of the configuration.")
    value: str = Field(description="Its value.")
    because: str = Field(description="Why, with the numbers.")


class Alternative(ApiModel):
    """A configuration that was considered and not chosen."""

    summary: str = Field(description="The configuration in a few words.")
    hourly_cost: Decimal | None = Field(default=None, description="What it would cost per hour.")
    rejected_because: str = Field(description="Why it was not chosen.")


class RecommendationStatus(ApiModel):
    """The recommendation in force and its grounds."""

    config: EngineConfigStatus = Field(description="The engine configuration in force.")
    ledger: LedgerStatus = Field(description="Where every GiB of one GPU goes.")
    predicted: PredictedStatus = Field(description="What one replica is expected to do at its load line.")
    reasons: list[Reason] = Field(default=[], max_length=32, description="Why each field has its value.")
    alternatives: list[Alternative] = Field(
        default=[], max_length=16, description="What was considered and not chosen."
    )
    confidence: Literal["High", "Medium", "Low"] = Field(
        description="How far measurements back the prediction on this GPU."
    )
    input_hash: str = Field(description="Hash of everything the recommendation was computed from.")
    applied_generation: int = Field(ge=0, description="Generation of the spec that it was made for.")


class MemoryStep(ApiModel):
    """How far memory settings were stepped down for a model on a GPU with an image whose starts ran out of memory."""

    model: str = Field(description="Model, as sizing identifies it.")
    accelerator: str = Field(description="GPU product.")
    image: str = Field(description="Container image of the engine.")
    steps: int = Field(ge=1, description="Steps taken.")
    gpu_memory_utilization: Decimal | None = Field(
        default=None, description="Largest share of GPU memory that is recommended since; absent when not lowered."
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, description="Most sequences that are recommended since; absent when not lowered."
    )
    revision: str = Field(description="Revision of the pods that the last step was taken for.")
    message: str = Field(default="", description="What their engine said.")
    at: Timestamp = Field(description="When the last step was taken.", json_schema_extra={"format": "date-time"})


class ObservedStatus(ApiModel):
    """What is measured, over the detector's window."""

    requests_per_second: Decimal | None = Field(default=None, description="Requests that arrive, whole service.")
    input_tokens_mean: Decimal | None = Field(default=None, description="Mean prompt length, in tokens.")
    output_tokens_mean: Decimal | None = Field(default=None, description="Mean generated length, in tokens.")
    running: Decimal | None = Field(default=None, description="Requests in batches, whole service.")
    waiting: Decimal | None = Field(default=None, description="Requests queued, whole service.")
    ttft: Duration | None = Field(default=None, description="At the objectives' percentile.")
    tpot: Duration | None = Field(default=None, description="At the objectives' percentile.")
    attainment: Decimal | None = Field(default=None, description="Share of requests that met the objectives (0 to 1).")
    load_line: Decimal | None = Field(default=None, description="Measured requests per second of one replica.")
    load_line_ratio: Decimal | None = Field(default=None, description="Measured over predicted load line.")
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

    signal: str = Field(description="Name of the signal.")
    value: str = Field(description="What it is now, with its unit.")
    reference: str = Field(description="What the value was compared with.")


class DiagnosisStatus(ApiModel):
    """What the detector says is happening, since when and on what grounds."""

    kind: DiagnosisKind = Field(description="What is happening.")
    since: Timestamp = Field(description="Since when.")
    message: str = Field(default="", description="The grounds, with the numbers.")
    pods: list[str] = Field(default=[], max_length=32, description="Pods it is about; empty means the service.")
    contributions: list[Contribution] = Field(default=[], max_length=16, description="The signals behind it.")


class DecisionStatus(ApiModel):
    """The last scaling decision and its numbers."""

    current: int = Field(description="Replicas wanted before the decision.")
    desired: int = Field(description="What the load asks for.")
    bounded: int = Field(description="What the bounds, budget and pace allow now.")
    reason: str = Field(description="Why, in one word for programs.")
    message: str = Field(default="", description="Why, with the numbers.")
    at: Timestamp = Field(description="When it was made.")


class HistoryEntry(ApiModel):
    """One change of the number of replicas."""

    at: Timestamp = Field(description="When.")
    before: int = Field(description="Replicas wanted before.")
    after: int = Field(description="Replicas wanted after.")
    reason: str = Field(description="Why, in one word for programs.")
    message: str = Field(default="", description="Why, with the numbers.")


class CostStatus(ApiModel):
    """What the service costs now."""

    per_hour: Decimal = Field(description="Of all replicas that exist, in the currency of hourlyCost.")
    per_million_output_tokens: Decimal | None = Field(
        default=None, description="At the rate of output tokens predicted at the load line."
    )
    gpus: int = Field(description="GPUs of all replicas that exist.")


class LoadTestStatus(ApiModel):
    """The last recorded load test (`plimsoll load --service`)."""

    at: Timestamp = Field(description="When it ended.")
    config_map: str = Field(description="ConfigMap with the whole record.")
    requests: int = Field(description="Requests sent.")
    failed: int = Field(description="Requests answered with an error or not at all.")
    truncated: int = Field(description="Streams that ended without a finish reason.")
    attainment: Decimal = Field(description="Share of requests that met every objective (0 to 1).")
    ttft: Duration = Field(description="At the objectives' percentile.")
    tpot: Duration = Field(description="At the objectives' percentile.")


class LLMServiceStatus(ApiModel):
    """What is true now, and why."""

    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        description="What holds and what does not, each with its reason.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that the operator has seen."
    )
    replicas: int | None = Field(default=None, ge=0, description="Pods that exist.")
    ready_replicas: int | None = Field(default=None, ge=0, description="Pods that serve.")
    selector: str | None = Field(default=None, description="Label selector of the pods, for /scale.")
    url: str | None = Field(default=None, description="Where clients inside the cluster reach the service.")
    recommendation: RecommendationStatus | None = Field(
        default=None, description="The recommendation in force and its grounds."
    )
    revision: str | None = Field(
        default=None, description="Revision of the pods (of their template) that the recommendation is of."
    )
    served_revision: str | None = Field(
        default=None, description="Revision of the pods (of their template) that last had a ready replica."
    )
    memory_steps: list[MemoryStep] = Field(
        default=[],
        max_length=MEMORY_STEPS_KEPT,
        description="Memory settings lowered after starts that ran out of GPU memory, newest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    observed: ObservedStatus | None = Field(default=None, description="What is measured, over the detector's window.")
    diagnosis: DiagnosisStatus | None = Field(default=None, description="What the detector says is happening.")
    decision: DecisionStatus | None = Field(default=None, description="The last scaling decision and its numbers.")
    history: list[HistoryEntry] = Field(
        default=[],
        max_length=HISTORY_LENGTH,
        description="Changes of the number of replicas, newest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    cost: CostStatus | None = Field(default=None, description="What the service costs now.")
    load_test: LoadTestStatus | None = Field(
        default=None, description="The last recorded load test (`plimsoll load --service`)."
    )
