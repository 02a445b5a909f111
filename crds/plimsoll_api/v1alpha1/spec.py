"""`LLMService.spec`: what a person asks for. Every field but `model.uri` is optional."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from plimsoll_api.v1alpha1.base import ApiModel, Rule, matching
from plimsoll_api.v1alpha1.engine import Engine
from plimsoll_api.v1alpha1.model import Model
from plimsoll_api.v1alpha1.quantities import (
    DrainTime,
    Fraction,
    IdleTime,
    Patience,
    Price,
    Rate,
    ResponseTime,
    StartTime,
    is_duration,
    parse_duration,
)

MAX_REPLICAS: Final = 1000
"""Upper bound of any replica count: well beyond a cluster's GPUs, small enough to stop a typing error."""


class TokenLengths(ApiModel):
    """Distribution of a token count over requests."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.p95) || self.p95 >= self.mean",
            message="p95 ({self.p95}) must not be less than mean ({self.mean})",
            holds=lambda tokens: tokens.p95 is None or tokens.p95 >= tokens.mean,
            field="p95",
        ),
    )

    mean: int = Field(ge=1, le=10_000_000, description="Mean number of tokens per request.")
    p95: int | None = Field(
        default=None, ge=1, le=10_000_000, description="95th percentile; 2.5 times the mean when absent."
    )


class Workload(ApiModel):
    """The traffic you expect: the configuration is sized for it, and the detector weighs the lengths it observes."""

    input_tokens: TokenLengths = Field(
        default=TokenLengths(mean=1000, p95=3000), description="Prompt length of a request, in tokens."
    )
    output_tokens: TokenLengths = Field(
        default=TokenLengths(mean=250, p95=700), description="Generated length of a request, in tokens."
    )
    requests_per_second: Rate = Field(default="1", description="Mean request rate of the whole service.")
    burstiness: Rate = Field(
        default="1",
        description="Coefficient of variation of the time between requests: 1 is Poisson, more is burstier.",
    )


class Objectives(ApiModel):
    """What users of the service should see. A request attains the objectives when it meets all that are set."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"!has(self.e2e) || !{is_duration('self.e2e')} || !{is_duration('self.ttft')}"
            " || duration(self.e2e) >= duration(self.ttft)",
            message="objectives.e2e ({self.e2e}) must not be less than objectives.ttft ({self.ttft}): "
            "the whole response contains its first token",
            holds=lambda aims: aims.e2e is None or parse_duration(aims.e2e) >= parse_duration(aims.ttft),
            field="e2e",
        ),
    )

    ttft: ResponseTime = Field(default="2s", description="Time to first token, at the percentile below.")
    tpot: ResponseTime = Field(
        default="100ms", description="Time per output token (inter-token latency), at the percentile below."
    )
    e2e: ResponseTime | None = Field(default=None, description="Time for the whole response, at the percentile below.")
    percentile: int = Field(default=95, ge=50, le=99, description="Percentile at which the targets must hold.")
    attainment: Fraction = Field(
        default="0.99", description="Share of requests over time that must meet every target; drives alerts."
    )


class AcceleratorCandidate(ApiModel):
    """One kind of GPU the service may use."""

    product: Annotated[
        str,
        Field(max_length=63),
        matching(
            r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
            "must be the value of a node's label nvidia.com/gpu.product, such as NVIDIA-H100-80GB-HBM3",
        ),
    ] = Field(
        description="Value of the node label nvidia.com/gpu.product, such as NVIDIA-H100-80GB-HBM3.",
    )
    hourly_cost: Price | None = Field(
        default=None, description="Price of one GPU-hour in your currency; the catalogue's list price when absent."
    )
    max_count: int | None = Field(
        default=None, ge=1, le=100_000, description="Most GPUs of this kind the service may use."
    )


class ScalingMode(StrEnum):
    """Who sets the number of replicas."""

    AUTO = "Auto"
    RECOMMEND = "Recommend"
    MANUAL = "Manual"


class Scaling(ApiModel):
    """Bounds and pace of scaling."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="scaling.minReplicas ({self.minReplicas}) must not be greater than scaling.maxReplicas "
            "({self.maxReplicas})",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            field="minReplicas",
        ),
        # In mode Manual whoever owns /scale says when; KEDA, for one, needs a minimum of 0 and no time of ours.
        Rule(
            cel="self.minReplicas > 0 || has(self.scaleToZeroAfter) || self.mode == 'Manual'",
            message="scaling.minReplicas 0 needs scaling.scaleToZeroAfter: how long without a request until it stops",
            holds=lambda scaling: (
                scaling.min_replicas > 0
                or scaling.scale_to_zero_after is not None
                or scaling.mode is ScalingMode.MANUAL
            ),
            field="minReplicas",
        ),
        Rule(
            cel="!has(self.scaleToZeroAfter) || self.minReplicas == 0",
            message="scaling.scaleToZeroAfter needs scaling.minReplicas 0, not {self.minReplicas}: "
            "a service that keeps replicas never stops",
            holds=lambda scaling: scaling.scale_to_zero_after is None or scaling.min_replicas == 0,
            field="scaleToZeroAfter",
        ),
        # Replicas have one owner. A bound that its owner does not know would be a promise that nobody keeps.
        Rule(
            cel="self.mode != 'Manual' || !(has(self.budgetPerHour) || has(self.scaleToZeroAfter))",
            message="scaling.budgetPerHour and scaling.scaleToZeroAfter do nothing in mode Manual, where something "
            "else owns the replicas: remove them or use mode Auto",
            holds=lambda scaling: (
                scaling.mode is not ScalingMode.MANUAL
                or (scaling.budget_per_hour is None and scaling.scale_to_zero_after is None)
            ),
            field="mode",
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
    scale_to_zero_after: IdleTime | None = Field(
        default=None, description="Stop the last replica after this long without a request; needs minReplicas 0."
    )
    scale_out_stabilization: Patience = Field(
        default="0s", description="The need must have lasted this long before replicas are added."
    )
    scale_in_stabilization: Patience = Field(
        default="5m", description="The surplus must have lasted this long before replicas are removed."
    )
    budget_per_hour: Rate | None = Field(
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
    drain_timeout: DrainTime = Field(
        default="120s", description="How long a pod may take to finish its streams before it is stopped."
    )
    startup_timeout: StartTime = Field(
        default="30m", description="How long a pod may take to load the model before it is restarted."
    )


_POD_TEMPLATE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "metadata": {
            "description": "Labels and annotations of the pods.",
            "type": "object",
            "properties": {
                "labels": {
                    "description": "Labels added to the operator's own.",
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
                "annotations": {
                    "description": "Annotations added to the operator's own.",
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
            },
        },
        "spec": {
            "description": "Partial PodSpec; the engine's container is named `engine`.",
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}
"""Two levels are spelled out, so that `podTemplate: {tolerations: ...}` is refused and not silently without effect."""


def _is_pod_template(template: dict[str, Any]) -> bool:
    metadata = template.get("metadata", {})
    return (
        template.keys() <= {"metadata", "spec"}
        and isinstance(template.get("spec", {}), dict)
        and isinstance(metadata, dict)
        and metadata.keys() <= {"labels", "annotations"}
    )


_IS_POD_TEMPLATE: Final = Rule(
    cel=None,
    message="podTemplate may have spec, metadata.labels and metadata.annotations; put pod fields under spec",
    holds=_is_pod_template,
)


def _gpus_per_replica(engine: Engine) -> int:
    return (engine.tensor_parallel_size or 1) * (engine.pipeline_parallel_size or 1)


_GPUS_PER_REPLICA_CEL: Final = (
    "(has(self.engine.tensorParallelSize) ? self.engine.tensorParallelSize : 1)"
    " * (has(self.engine.pipelineParallelSize) ? self.engine.pipelineParallelSize : 1)"
)


class LLMServiceSpec(ApiModel):
    """What a person asks for."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.accelerators) || self.accelerators.all(a, !has(a.maxCount) || "
            f"a.maxCount >= {_GPUS_PER_REPLICA_CEL})",
            message="accelerators[].maxCount must not be less than the GPUs of one replica: "
            "engine.tensorParallelSize x engine.pipelineParallelSize",
            holds=lambda spec: all(
                kind.max_count is None or kind.max_count >= _gpus_per_replica(spec.engine) for kind in spec.accelerators
            ),
            field="accelerators",
        ),
        Rule(
            cel="!has(self.engine.maxModelLen) || self.engine.maxModelLen >= "
            "self.workload.inputTokens.mean + self.workload.outputTokens.mean",
            message="engine.maxModelLen ({self.engine.maxModelLen}) must hold a mean request: "
            "workload.inputTokens.mean ({self.workload.inputTokens.mean}) + "
            "workload.outputTokens.mean ({self.workload.outputTokens.mean}) tokens; raise it or set spec.workload",
            holds=lambda spec: (
                spec.engine.max_model_len is None
                or spec.engine.max_model_len >= spec.workload.input_tokens.mean + spec.workload.output_tokens.mean
            ),
            field="engine.maxModelLen",
        ),
        # The server has this from the list type; only files and objects of other servers need the rule.
        Rule(
            cel=None,
            message="accelerators[].product must be unique",
            holds=lambda spec: len({kind.product for kind in spec.accelerators}) == len(spec.accelerators),
        ),
    )

    model: Model = Field(description="The model to serve and where its weights are.")
    workload: Workload = Field(default=Workload(), description="The traffic you expect, for which it is sized.")
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
    pod_template: Annotated[dict[str, Any], _IS_POD_TEMPLATE] = Field(
        default={},
        description=(
            "Partial PodTemplateSpec merged last (strategic merge): tolerations, nodeSelector, annotations, "
            "sidecars, environment."
        ),
        json_schema_extra=_POD_TEMPLATE_SCHEMA,
    )
