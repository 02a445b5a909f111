"""`LLMService.spec`: what a person asks for. Every field but `model.uri` is optional."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from plimsoll_api.v1alpha1.quantities import Decimal, Duration, Fraction

MODEL_URI_PATTERN: Final = r"^(hf|pvc|s3|oci|file)://.+$"
"""The schemes a model can be read from; a bare `org/name` is refused so that the source is never guessed."""

DNS_LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_REPLICAS: Final = 1000
"""Upper bound of any replica count: well beyond a cluster's GPUs, small enough to stop a typing error."""


def to_camel(snake: str) -> str:
    """`tensor_parallel_size` -> `tensorParallelSize`."""
    head, *tail = snake.split("_")
    return head + "".join(word.capitalize() for word in tail)


class ApiModel(BaseModel):
    """Base of every API model: camelCase on the wire, immutable, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def rule(cel: str, message: str) -> dict[str, JsonValue]:
    """One CEL validation rule of the CRD (`x-kubernetes-validations`)."""
    return {"rule": cel, "message": message}


def with_rules(*rules: JsonValue) -> ConfigDict:
    """Model configuration that attaches CEL rules to a model's schema."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": list(rules)})


class ModelCache(ApiModel):
    """A volume claim that keeps the weights between pods."""

    size: str = Field(
        pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$", max_length=16, description="Size of the claim, such as 200Gi."
    )
    storage_class_name: str | None = Field(
        default=None, max_length=253, description="Storage class; the cluster's default when absent."
    )


class Model(ApiModel):
    """The model to serve and where its weights are."""

    uri: str = Field(
        pattern=MODEL_URI_PATTERN,
        max_length=1024,
        description=(
            "Where the model is: hf://org/name (Hugging Face hub), pvc://claim/path, s3://bucket/path, "
            "oci://image or file:///path on the node."
        ),
    )
    revision: str | None = Field(
        default=None, max_length=128, description="Revision of an hf:// model: a branch, tag or commit."
    )
    served_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Name clients use in requests; the LLMService's own name when absent.",
    )
    credentials_secret: str | None = Field(
        default=None,
        pattern=DNS_LABEL_PATTERN,
        max_length=253,
        description="Secret in the same namespace whose key `token` grants access to the model. By reference only.",
    )
    base_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description=(
            "Catalogue name of a model with the same architecture, such as meta-llama/Llama-3.1-8B-Instruct, "
            "for a fine-tune or a copy whose config.json the operator cannot read."
        ),
    )
    config_map: str | None = Field(
        default=None,
        pattern=DNS_LABEL_PATTERN,
        max_length=253,
        description="ConfigMap in the same namespace whose key config.json describes the model.",
    )
    cache: ModelCache | None = Field(default=None, description="Keep the weights on a volume claim between pods.")


class TokenLengths(ApiModel):
    """Distribution of a token count over requests."""

    mean: int = Field(ge=1, le=10_000_000, description="Mean number of tokens per request.")
    p95: int | None = Field(
        default=None, ge=1, le=10_000_000, description="95th percentile; 2.5 times the mean when absent."
    )


class Workload(ApiModel):
    """The traffic you expect; replaced by what is observed once there is traffic."""

    model_config = with_rules(
        rule(
            "!has(self.inputTokens.p95) || self.inputTokens.p95 >= self.inputTokens.mean",
            "workload.inputTokens.p95 must not be less than workload.inputTokens.mean",
        ),
        rule(
            "!has(self.outputTokens.p95) || self.outputTokens.p95 >= self.outputTokens.mean",
            "workload.outputTokens.p95 must not be less than workload.outputTokens.mean",
        ),
    )

    input_tokens: TokenLengths = Field(
        default=TokenLengths(mean=1000, p95=3000), description="Prompt length of a request, in tokens."
    )
    output_tokens: TokenLengths = Field(
        default=TokenLengths(mean=250, p95=700), description="Generated length of a request, in tokens."
    )
    requests_per_second: Decimal = Field(default="1", description="Mean request rate of the whole service.")
    burstiness: Decimal = Field(
        default="1",
        description="Coefficient of variation of the time between requests: 1 is Poisson, more is burstier.",
    )


class Objectives(ApiModel):
    """What users of the service should see. A request attains the objectives when it meets all that are set."""

    ttft: Duration = Field(default="2s", description="Time to first token, at the percentile below.")
    tpot: Duration = Field(
        default="100ms", description="Time per output token (inter-token latency), at the percentile below."
    )
    e2e: Duration | None = Field(default=None, description="Time for the whole response, at the percentile below.")
    percentile: int = Field(default=95, ge=50, le=99, description="Percentile at which the targets must hold.")
    attainment: Fraction = Field(
        default="0.99", description="Share of requests over time that must meet every target; drives alerts."
    )


class AcceleratorCandidate(ApiModel):
    """One kind of GPU the service may use."""

    product: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="Value of the node label nvidia.com/gpu.product, such as NVIDIA-H100-80GB-HBM3.",
    )
    hourly_cost: Decimal | None = Field(
        default=None, description="Price of one GPU-hour in your currency; the catalogue's list price when absent."
    )
    max_count: int | None = Field(
        default=None, ge=1, le=100_000, description="Most GPUs of this kind the service may use."
    )


class EngineType(StrEnum):
    """Inference engines the operator can run."""

    VLLM = "vllm"


class KvCacheDtype(StrEnum):
    """Storage type of the KV cache, as vLLM names it."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class Engine(ApiModel):
    """Engine settings. What is set here is obeyed; what is absent is recommended."""

    type: EngineType = Field(default=EngineType.VLLM, description="Inference engine.")
    image: str | None = Field(
        default=None, min_length=1, max_length=512, description="Container image; the operator's default when absent."
    )
    tensor_parallel_size: int | None = Field(
        default=None, ge=1, le=64, description="GPUs each layer is split over (vLLM --tensor-parallel-size)."
    )
    pipeline_parallel_size: int | None = Field(
        default=None, ge=1, le=64, description="Stages the layers are split into (vLLM --pipeline-parallel-size)."
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, le=65_536, description="Most sequences in one batch (vLLM --max-num-seqs)."
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, le=1_048_576, description="Most tokens in one step (vLLM --max-num-batched-tokens)."
    )
    gpu_memory_utilization: Fraction | None = Field(
        default=None, description="Share of GPU memory the engine may take (vLLM --gpu-memory-utilization)."
    )
    max_model_len: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Longest prompt plus output (vLLM --max-model-len)."
    )
    kv_cache_dtype: KvCacheDtype | None = Field(
        default=None, description="Storage type of the KV cache (vLLM --kv-cache-dtype)."
    )
    extra_args: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default=[], max_length=64, description="Further engine arguments, appended as they are."
    )


class ScalingMode(StrEnum):
    """Who sets the number of replicas."""

    AUTO = "Auto"
    RECOMMEND = "Recommend"
    MANUAL = "Manual"


class Scaling(ApiModel):
    """Bounds and pace of scaling."""

    model_config = with_rules(
        rule(
            "self.minReplicas <= self.maxReplicas",
            "scaling.minReplicas must not be greater than scaling.maxReplicas",
        ),
        rule(
            "self.minReplicas > 0 || has(self.scaleToZeroAfter)",
            "scaling.minReplicas 0 needs scaling.scaleToZeroAfter: say after how long without a request to stop",
        ),
    )

    mode: ScalingMode = Field(
        default=ScalingMode.AUTO,
        description=(
            "Auto: the detector decides and acts. Recommend: it decides and records but does not act. "
            "Manual: an HPA, KEDA or a person owns /scale."
        ),
    )
    min_replicas: int = Field(default=1, ge=0, le=MAX_REPLICAS, description="Fewest replicas.")
    max_replicas: int = Field(default=8, ge=1, le=MAX_REPLICAS, description="Most replicas.")
    scale_to_zero_after: Duration | None = Field(
        default=None, description="Stop the last replica after this long without a request; needs minReplicas 0."
    )
    scale_out_stabilization: Duration = Field(
        default="0s", description="The need must have lasted this long before replicas are added."
    )
    scale_in_stabilization: Duration = Field(
        default="5m", description="The surplus must have lasted this long before replicas are removed."
    )
    budget_per_hour: Decimal | None = Field(
        default=None, description="Most money per hour, in the currency of hourlyCost; caps the replicas."
    )


class RolloutStrategy(StrEnum):
    """How pods are replaced when their template changes."""

    SURGE_THEN_DRAIN = "SurgeThenDrain"
    DRAIN_THEN_REPLACE = "DrainThenReplace"


class Rollout(ApiModel):
    """Replacing pods without losing a stream."""

    strategy: RolloutStrategy = Field(
        default=RolloutStrategy.SURGE_THEN_DRAIN,
        description=(
            "SurgeThenDrain starts the new pod first and needs spare GPUs; "
            "DrainThenReplace drains first and needs none."
        ),
    )
    drain_timeout: Duration = Field(
        default="120s", description="How long a pod may take to finish its streams before it is stopped."
    )
    startup_timeout: Duration = Field(
        default="30m", description="How long a pod may take to load the model before it is restarted."
    )


class LLMServiceSpec(ApiModel):
    """What a person asks for."""

    model_config = with_rules(
        rule(
            "!has(oldSelf.model.servedName) || (has(self.model.servedName) && "
            "self.model.servedName == oldSelf.model.servedName)",
            "model.servedName cannot be changed: clients use it; create a new LLMService",
        ),
        rule(
            "!has(self.engine) || !has(self.engine.tensorParallelSize) || !has(self.accelerators) "
            "|| self.accelerators.all(a, !has(a.maxCount) || a.maxCount >= self.engine.tensorParallelSize)",
            "accelerators[].maxCount must not be less than engine.tensorParallelSize",
        ),
    )

    model: Model = Field(description="The model to serve and where its weights are.")
    workload: Workload = Field(default=Workload(), description="The traffic you expect; replaced by what is observed.")
    objectives: Objectives = Field(default=Objectives(), description="What users of the service should see.")
    accelerators: list[AcceleratorCandidate] = Field(
        default=[],
        max_length=16,
        description=(
            "Kinds of GPU the service may use, in any order; the cheapest that meets the objectives wins. "
            "When empty, the kinds found on the nodes."
        ),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["product"]},
    )
    engine: Engine = Field(default=Engine(), description="What is set here is obeyed; what is absent is recommended.")
    scaling: Scaling = Field(default=Scaling(), description="Bounds and pace of scaling.")
    rollout: Rollout = Field(default=Rollout(), description="How pods are replaced.")
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=MAX_REPLICAS,
        description=(
            "Replicas wanted now. Written through /scale by the detector, an HPA, KEDA or kubectl scale; leave it out."
        ),
    )
    paused: bool = Field(default=False, description="Leave the children as they are until this is false again.")
    pod_template: dict[str, Any] = Field(
        default={},
        description=(
            "Partial PodTemplateSpec merged last (strategic merge): tolerations, nodeSelector, annotations, "
            "sidecars, environment."
        ),
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
