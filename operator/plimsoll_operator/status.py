"""Pure: the operator's part of a service's status, and whether it changed."""

from __future__ import annotations

from typing import Any, Final

from plimsoll_api import names
from plimsoll_api.names import OPERATOR_CONDITIONS
from plimsoll_api.v1alpha1 import (
    CostStatus,
    LLMServiceSpec,
    LLMServiceStatus,
    RecommendationStatus,
    format_decimal,
)
from plimsoll_kube.resources import LLM_SERVICE, Manifest
from plimsoll_operator.conditions.evaluate import Conditions
from plimsoll_operator.conditions.situation import Situation
from plimsoll_operator.manifests.service import url_of
from plimsoll_operator.sizing import hourly_price

OWNED: Final = (
    "observedGeneration",
    "replicas",
    "readyReplicas",
    "selector",
    "url",
    "recommendation",
    "revision",
    "servedRevision",
    "memorySteps",
    "cost",
)
"""Fields of the status, besides its conditions, that the operator owns."""

_TOKENS_PER_UNIT: Final = 1_000_000
_SECONDS_PER_HOUR: Final = 3600


def status_of(
    service: Manifest, spec: LLMServiceSpec | None, situation: Situation, conditions: Conditions
) -> dict[str, Any]:
    """The operator's part of the status.

    Args:
        service: the LLMService.
        spec: None when it cannot be understood.
        situation: what is true of it.
        conditions: the operator's conditions.
    """
    metadata = service["metadata"]
    status = LLMServiceStatus(
        observed_generation=situation.generation,
        replicas=len(situation.current),
        ready_replicas=situation.ready,
        selector=f"{names.SERVICE_LABEL}={metadata['name']}",
        url=url_of(metadata["namespace"], metadata["name"]),
        recommendation=situation.recommendation,
        revision=situation.revision or (service.get("status") or {}).get("revision"),
        served_revision=situation.served_revision,
        memory_steps=list(situation.memory_steps),
        cost=cost_of(spec, situation.recommendation, len(situation.pods)) if spec else None,
    )
    part = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"conditions": conditions, **{field: part[field] for field in OWNED if part.get(field) not in (None, [])}}


def cost_of(spec: LLMServiceSpec, recommendation: RecommendationStatus | None, pods: int) -> CostStatus | None:
    """What the pods that exist cost, draining ones included: they hold their GPUs."""
    if recommendation is None:
        return None
    config = recommendation.config
    price = hourly_price(spec, config.accelerator)
    if price is None:
        return None
    per_replica = config.tensor_parallel_size * config.pipeline_parallel_size
    tokens = float(recommendation.predicted.output_tokens_per_second) * _SECONDS_PER_HOUR
    per_million = price * per_replica / tokens * _TOKENS_PER_UNIT if tokens > 0 else None
    return CostStatus(
        per_hour=format_decimal(price * per_replica * pods),
        per_million_output_tokens=None if per_million is None else format_decimal(per_million),
        gpus=per_replica * pods,
    )


def changed(live: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the operator's part of a live status is not what it should be."""
    ours = {str(kind) for kind in OPERATOR_CONDITIONS}
    before = {entry["type"]: entry for entry in live.get("conditions") or [] if entry["type"] in ours}
    after = {entry["type"]: entry for entry in wanted["conditions"]}
    return before != after or any(live.get(field) != wanted.get(field) for field in OWNED)


def status_manifest(service: Manifest, status: dict[str, Any]) -> Manifest:
    """What to apply to the status subresource."""
    metadata = service["metadata"]
    return LLM_SERVICE.manifest(metadata["namespace"], metadata["name"], status=status)
